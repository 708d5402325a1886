// Run a compiled network on an image or on tensors, and time it. What lies beside this program:
//
//     network.so, network.json    the network, and what is to be known of it
//     lib/                        TVM's runtime
//
// The result is, in every bit, that of `python -m tvm_bnn.run` on the same image.
#include <limits.h>
#include <time.h>

#include "cpu.h"
#include "image.h"
#include "preprocess.h"
#include "tvm.h"

namespace {

constexpr char kUsage[] =
    "usage: run INPUT... [-o OUT]... [--save-input FILE] [--threads N] [--repeat N]\n"
    "\n"
    "INPUT              image (.png, .ppm, .pgm) of a network that takes one, or a tensor (.npy, .raw) for each input\n"
    "-o OUT             .png: the class of each pixel; .npy, .raw: the result (a tuple's: OUT-0.npy, OUT-1.npy, ...)\n"
    "--save-input FILE  .npy, .raw: what the network reads, of its first input\n"
    "--threads N        (default: as compiled, as far as there are CPUs)\n"
    "--repeat N         runs to measure (default: 10)\n";

constexpr int kShareAllCpus = -3;  // of TVM's ways to place threads
constexpr int kPooled = 2;         // of its ways to allocate
constexpr int64_t kMaxClasses = 65536;

struct Options {
  List<const char*> inputs, outputs;
  const char* save_input = nullptr;
  int threads = 0, repeat = 10;
};

int positive(const char* name, const char* word) {
  char* end = nullptr;
  const long value = strtol(word, &end, 10);
  if (*word == '\0' || *end != '\0' || value < 1 || value > 1000000) {
    fail("found %s '%s'; a whole number from 1 to 1000000 is needed", name, word);
  }
  return static_cast<int>(value);
}

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const char* word = words[i];
    const auto is = [&](const char* name) { return equal(word, name); };
    if (is("-h") || is("--help")) {
      fputs(kUsage, stdout);
      exit(0);
    }
    if (word[0] != '-') {
      options.inputs.add(word);
      continue;
    }
    if (!is("-o") && !is("--save-input") && !is("--threads") && !is("--repeat")) {
      fail("unknown option %s; ./run --help shows what is accepted", word);
    }
    if (++i == count) fail("%s needs a value", word);
    if (is("-o")) options.outputs.add(words[i]);
    if (is("--save-input")) options.save_input = words[i];
    if (is("--threads")) options.threads = positive(word, words[i]);
    if (is("--repeat")) options.repeat = positive(word, words[i]);
  }
  if (options.inputs.empty()) fail("no input was named; ./run --help shows what is accepted");
  for (const char* path : options.outputs) {
    if (!is_tensor(path) && !ends_with(path, ".png")) fail("cannot write %s; accepted are .png, .npy and .raw", path);
  }
  if (options.save_input != nullptr && !is_tensor(options.save_input)) {
    fail("cannot write %s; accepted are .npy and .raw", options.save_input);
  }
  return options;
}

// The folder of this program.
const char* home() {
  static char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (size <= 0) fail("cannot tell where this program lies: /proc is missing");
  path[size] = '\0';
  *strrchr(path, '/') = '\0';
  return path;
}

// --- what the network asks for --------------------------------------------------------------------------------

void check_cpu(const Json& target) {
  const Flags flags = cpu_flags();
  const Json required = target["required_features"];
  const char* missing = "";
  for (size_t i = 0; i < required.size(); ++i) {
    const char* flag = required[i].letters();
    bool found = false;
    for (const char* each : flags) found = found || equal(each, flag);
    if (!found) missing = text("%s%s%s", missing, *missing == '\0' ? "" : ", ", flag);
  }
  // a system that tells nothing refuses nothing
  if (*missing == '\0' || flags.empty()) return;
  fail("the network was compiled for %s, and this processor lacks %s; compile it again for this one",
       target["name"].letters(), missing);
}

void check_library(const char* path, const Json& library) {
  const Bytes file = read_file(path);
  const bool whole = static_cast<int64_t>(file.size()) == library["bytes"].whole();
  if (!whole || crc32(file.begin(), file.size()) != library["crc32"].whole()) {
    fail("%s is damaged; unpack the bundle again", path);
  }
}

Dtype dtype_of(const char* name) {
  for (const Dtype& dtype : kDtypes) {
    if (equal(name, dtype.name)) return dtype;
  }
  fail("a dtype that is not known here: %s", name);
}

void read_picture(const char* path, const Json& how, const Tensor& tensor) {
  if (!how.exists()) fail("the network takes no image, but %s; give it as .npy or .raw", tensor.title());
  const auto whole = [&](const char* key) { return static_cast<int>(how[key].whole()); };
  const int channels = whole("channels"), last = whole("channels_last");
  const Bytes pixels = channels_of(resize(read_image(path), whole("width"), whole("height")), channels);
  if (!how["scale"].exists()) {
    arrange(pixels, channels, last, [](uint8_t value, size_t) { return value; }, tensor.as<uint8_t>());
    return;
  }
  const auto scale = static_cast<float>(how["scale"].number());
  List<float> mean, deviation;
  for (size_t channel = 0; channel < static_cast<size_t>(channels); ++channel) {
    mean.add(static_cast<float>(how["mean"][channel].number()));
    deviation.add(static_cast<float>(how["std"][channel].number()));
  }
  const auto scaled = [&](uint8_t value, size_t channel) {
    return (value * scale - mean[channel]) / deviation[channel];
  };
  arrange(pixels, channels, last, scaled, tensor.as<float>());
}

List<Tensor> read_inputs(const List<const char*>& paths, const Json& network) {
  const Json rows = network["inputs"];
  if (paths.size() != rows.size()) fail("found %zu inputs; the network takes %zu", paths.size(), rows.size());
  List<Tensor> tensors;
  for (size_t i = 0; i < paths.size(); ++i) {
    const Tensor tensor = Tensor::make(dtype_of(rows[i]["dtype"].letters()), rows[i]["shape"].shape());
    if (is_tensor(paths[i])) {
      read_tensor(paths[i], rows[i]["name"].letters(), tensor);
    } else {
      read_picture(paths[i], network["image"], tensor);
    }
    tensors.add(tensor);
  }
  return tensors;
}

// --- running --------------------------------------------------------------------------------------------------

// Let TVM use so many threads, on all CPUs alike; how many it does.
int use_threads(int asked, int64_t compiled) {
  const List<int> cpus = available_cpus();
  const auto here = static_cast<int64_t>(cpus.size());
  if (asked > here) {
    fail("found --threads %d; from 1 to %lld (the CPUs here) can be used", asked, static_cast<long long>(here));
  }
  List<Value> names;
  for (int cpu : cpus) names.add(value_of(text("%d", cpu)));
  const Value list = call("setting threads", global("ffi.Array"), names);
  const Value count = value_of(asked ? asked : least(compiled, here));
  call("setting threads", global("runtime.config_threadpool"), {value_of(kShareAllCpus), count, list});
  return static_cast<int>(call("counting threads", global("runtime.NumThreads"), List<Value>()).v_int64);
}

// The network's function, of tensors.
Value load(const char* path) {
  const char* doing = text("loading %s", path);
  const auto get = [&](const Value& module, const char* name) {
    return call(doing, global("ffi.ModuleGetFunction"), {module, value_of(name), value_of(false)});
  };
  const Value library = call(doing, global("ffi.ModuleLoadFromFile"), {value_of(path)});
  const Value machine = call(doing, get(library, "vm_load_executable"), List<Value>());
  call(doing, get(machine, "vm_initialization"), {value_of(kDLCPU), value_of(int64_t{0}), value_of(kPooled)});
  return get(machine, "main");
}

double milliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

// --- the result -----------------------------------------------------------------------------------------------

template <typename T>
List<int64_t> widened(const Tensor& tensor) {
  List<int64_t> values;
  for (int64_t i = 0; i < tensor.count(); ++i) values.add(static_cast<int64_t>(tensor.as<T>()[i]));
  return values;
}

List<int64_t> whole_numbers(const Tensor& tensor) {
  const bool with_sign = tensor.dtype.code == kDLInt;
  switch (tensor.dtype.bits) {
    case 8:
      return with_sign ? widened<int8_t>(tensor) : widened<uint8_t>(tensor);
    case 16:
      return with_sign ? widened<int16_t>(tensor) : widened<uint16_t>(tensor);
    case 32:
      return with_sign ? widened<int32_t>(tensor) : widened<uint32_t>(tensor);
    default:
      return widened<int64_t>(tensor);
  }
}

// The channel of the greatest logit, the first of several; a NaN is greater than any number.
int64_t greatest(const float* logits, int64_t channels, int64_t step) {
  int64_t best = 0;
  for (int64_t channel = 1; channel < channels && !isnan(logits[best * step]); ++channel) {
    if (!(logits[channel * step] <= logits[best * step])) best = channel;
  }
  return best;
}

// The class of each pixel: whole numbers are classes; of floats, the sign of one channel, or the greatest of several.
// None where the result has another shape, or other numbers.
List<int64_t> class_map(const Tensor& result) {
  const Shape& shape = result.shape;
  const size_t rank = shape.size();
  List<int64_t> classes;
  if (rank < 3 || rank > 4 || result.count() == 0) return classes;
  const int64_t pixels = shape[rank - 2] * shape[rank - 1];
  if (result.dtype.code != kDLFloat && result.count() == pixels) {
    classes = whole_numbers(result);
  } else if (result.dtype.code == kDLFloat && result.dtype.bits == 32 && rank == 4 && shape[0] == 1) {
    const auto* logits = result.as<float>();
    for (int64_t i = 0; i < pixels; ++i) {
      classes.add(shape[1] == 1 ? logits[i] > 0 : greatest(logits + i, shape[1], pixels));
    }
  }
  for (int64_t value : classes) {
    if (value < 0 || value >= kMaxClasses) return {};
  }
  return classes;
}

Bytes colours_of(const Json& names) {
  Bytes colours;
  for (size_t i = 0; i < names.size(); ++i) {
    const unsigned long value = strtoul(names[i].letters() + 1, nullptr, 16);  // #rrggbb
    for (int shift = 16; shift >= 0; shift -= 8) colours.add(static_cast<uint8_t>(value >> shift));
  }
  return colours;
}

void print_shares(const List<int64_t>& classes, const Json& names) {
  const size_t known = names.exists() ? names.size() : 0;
  List<int64_t> counts(known);
  for (int64_t value : classes) {
    while (counts.size() <= static_cast<size_t>(value)) counts.add(0);
    ++counts[static_cast<size_t>(value)];
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    const double share = 100.0 * static_cast<double>(counts[i]) / static_cast<double>(classes.size());
    printf("  %5.1f %%  %s\n", share, i < known ? names[i].letters() : text("class %zu", i));
  }
}

void write_results(const char* path, const List<Tensor>& results, const List<int64_t>& classes, const Json& network) {
  if (ends_with(path, ".png")) {
    if (classes.empty()) {
      fail("the network returns %s, which is no class map; write it as .npy or .raw", results[0].title());
    }
    const Shape& shape = results[0].shape;
    write_file(path, png_of_classes(classes, shape[shape.size() - 1], colours_of(network["colours"])));
  } else if (results.size() == 1) {
    write_tensor(path, results[0]);
  } else {
    const char* ending = strrchr(path, '.');
    const int before = static_cast<int>(ending - path);
    for (size_t i = 0; i < results.size(); ++i) write_tensor(text("%.*s-%zu%s", before, path, i, ending), results[i]);
  }
  printf("written to %s\n", path);
}

void print_times(const char* name, List<double> times, int threads) {
  const auto compare = [](const void* one, const void* other) {
    const double first = *static_cast<const double*>(one), second = *static_cast<const double*>(other);
    return (first > second) - (first < second);
  };
  const size_t count = times.size();
  qsort(times.begin(), count, sizeof(double), compare);
  const double median = (times[(count - 1) / 2] + times[count / 2]) / 2;
  printf("%s: %.2f ms (median of %zu; %.2f to %.2f), %d thread%s\n", name, median, count, times[0], times[count - 1],
         threads, threads == 1 ? "" : "s");
}

}  // namespace

int main(int count, char** words) {
  const Options options = parse(count, words);
  const char* folder = home();
  setenv("TVM_BIND_THREADS", "0", 0);  // threads that TVM pins stay where others run, too
  open_tvm(text("%s/lib", folder));
  const Json network = Json::read(text("%s/network.json", folder));
  check_cpu(network["target"]);
  const char* library = text("%s/%s", folder, network["library"]["file"].letters());
  check_library(library, network["library"]);
  const List<Tensor> inputs = read_inputs(options.inputs, network);
  if (options.save_input != nullptr) write_tensor(options.save_input, inputs[0]);

  const int threads = use_threads(options.threads, network["target"]["threads"].whole());
  const Value run = load(library);
  List<Value> arguments;
  for (const Tensor& input : inputs) arguments.add(shared(input));
  const auto once = [&] { return call("running the network", run, arguments); };
  List<Tensor> results;
  copy_tensors(once(), &results);
  if (results.empty()) fail("the network has no result");
  List<double> times;
  for (int i = 0; i < options.repeat; ++i) {
    const double start = milliseconds();
    const Value result = once();
    times.add(milliseconds() - start);
    release(result);
  }

  print_times(network["name"].letters(), times, threads);
  const List<int64_t> classes = class_map(results[0]);
  if (!classes.empty()) {
    print_shares(classes, network["class_names"]);
  } else {
    for (const Tensor& result : results) printf("  %s\n", result.title());
  }
  for (const char* path : options.outputs) write_results(path, results, classes, network);
  return 0;
}
