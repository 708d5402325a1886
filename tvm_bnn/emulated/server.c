/* One session of TVM's RPC protocol, without Python: it is compiled for AArch64 and runs under qemu-user.
 *
 * It listens on a free port of this machine, prints the port, serves the first client that connects, and ends. With an
 * argument, the number of an open file, it serves the client at the other end, who has been greeted. A file that the
 * client uploads has the name that the client gives it. In C, because the C library is all that a cross compiler then
 * has to bring.
 *
 * Where the emulator counts instructions (counter.c) into the file that $TVM_BNN_COUNTS names, a virtual machine whose
 * instrument is the factory "tvm_bnn.counter" notes them: a line of JSON for each call, in the order of the calls, in
 * the file ./calls; and "tvm_bnn.count" calls a function of a module, given with its name and arguments, and returns
 * how many it executed.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include "counts.h"

#define MAGIC 0xff271 /* what both sides of the protocol send first */
#define NAME "server:"

static void check(int fine, const char* what) {
  if (fine) return;
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void take(int client, void* data, size_t size) {
  check(recv(client, data, size, MSG_WAITALL) == (ssize_t)size, "the client hung up");
}

static void give(int client, const void* data, size_t size) {
  check(send(client, data, size, 0) == (ssize_t)size, "the client hung up");
}

/* The first client of a free port. */
static int connection(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof(address);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  check(bind(listener, (struct sockaddr*)&address, size) == 0 && listen(listener, 1) == 0, "cannot listen");
  check(getsockname(listener, (struct sockaddr*)&address, &size) == 0, "cannot tell the port");
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  int client = accept(listener, NULL, NULL);
  check(client >= 0, "nobody connected");
  return client;
}

/* The client sends magic and its name; so does the server. A name goes behind its length. */
static void greet(int client) {
  int32_t magic = 0, size = 0;
  char name[256];
  take(client, &magic, sizeof(magic));
  check(magic == MAGIC, "this is no client of TVM's");
  take(client, &size, sizeof(size));
  check(size >= 0 && size <= (int32_t)sizeof(name), "the client's name is too long");
  take(client, name, (size_t)size);
  magic = MAGIC;
  size = sizeof(NAME) - 1;
  give(client, &magic, sizeof(magic));
  give(client, &size, sizeof(size));
  give(client, NAME, sizeof(NAME) - 1);
}

static TVMFFIByteArray text(const char* value) { return (TVMFFIByteArray){value, strlen(value)}; }

static TVMFFIObjectHandle function(const char* name) {
  TVMFFIByteArray key = text(name);
  TVMFFIObjectHandle found = NULL;
  check(TVMFFIFunctionGetGlobal(&key, &found) == 0 && found != NULL, name);
  return found;
}

static void publish(const char* name, TVMFFIObjectHandle value) {
  TVMFFIByteArray key = text(name);
  check(TVMFFIFunctionSetGlobal(&key, value, 1) == 0, name);
}

static TVMFFIObjectHandle made(TVMFFISafeCallType call) {
  TVMFFIObjectHandle own = NULL;
  check(TVMFFIFunctionCreate(NULL, call, NULL, &own) == 0, "cannot make a function");
  return own;
}

/* The place of an uploaded file: its name. */
static int place(void* self, const TVMFFIAny* arguments, int32_t count, TVMFFIAny* result) {
  (void)self;
  if (count == 1) return TVMFFIAnyViewToOwnedAny(&arguments[0], result);
  TVMFFIErrorSetRaisedFromCStr("TypeError", "one name is expected");
  return -1;
}

static const struct noted* noted; /* how much the emulator had counted when a call began, and when it ended */

static TVMFFIByteArray string(const TVMFFIAny* value) {
  if (value->type_index == kTVMFFISmallStr) return (TVMFFIByteArray){value->v_bytes, value->small_str_len};
  if (value->type_index == kTVMFFIRawStr) return text(value->v_c_str);
  check(value->type_index == kTVMFFIStr, "a name is expected");
  return *(TVMFFIByteArray*)((char*)value->v_obj + sizeof(TVMFFIObject));
}

/* The instrument: called with (function, name, whether it is about to be called, result, arguments ...). */
static int note(void* self, const TVMFFIAny* arguments, int32_t count, TVMFFIAny* result) {
  (void)self;
  check(count >= 3, "a name and a moment are expected");
  *result = (TVMFFIAny){.type_index = kTVMFFIInt, .v_int64 = 0}; /* go on */
  syscall(arguments[2].v_int64 ? CALL_BEGINS : CALL_ENDS);
  if (arguments[2].v_int64) return 0;
  FILE* calls = fopen("calls", "a");
  check(calls != NULL, "cannot write the calls");
  TVMFFIByteArray name = string(&arguments[1]);
  unsigned long long executed = noted->end.total - noted->begin.total;
  fprintf(calls, "{\"function\": \"%.*s\", \"total\": %llu, \"of\": {", (int)name.size, name.data, executed);
  const char* between = "";
  for (uint64_t i = 0; i < noted->end.names; ++i) {
    executed = noted->end.of[i].count - noted->begin.of[i].count;
    if (!executed) continue;
    fprintf(calls, "%s\"%s\": %llu", between, noted->end.of[i].name, executed);
    between = ", ";
  }
  fprintf(calls, "}}\n");
  check(fclose(calls) == 0, "cannot write the calls");
  return 0;
}

static int counter(void* self, const TVMFFIAny* arguments, int32_t count, TVMFFIAny* result) {
  (void)self, (void)arguments, (void)count;
  *result = (TVMFFIAny){.type_index = kTVMFFIFunction};
  result->v_obj = made(note);
  return 0;
}

/* Called with (module, name of a function, arguments ...): instructions of one call. */
static int count_call(void* self, const TVMFFIAny* arguments, int32_t count, TVMFFIAny* result) {
  (void)self;
  check(count >= 2, "a module and a name are expected");
  TVMFFIAny asked[3] = {arguments[0], arguments[1], {.type_index = kTVMFFIBool, .v_int64 = 1}};
  TVMFFIAny found = {.type_index = kTVMFFINone}, nothing = {.type_index = kTVMFFINone};
  if (TVMFFIFunctionCall(function("ffi.ModuleGetFunction"), asked, 3, &found)) return -1;
  if (found.type_index != kTVMFFIFunction) {
    TVMFFIErrorSetRaisedFromCStr("AttributeError", "the module has no such function");
    return -1;
  }
  syscall(CALL_BEGINS);
  int failed = TVMFFIFunctionCall(found.v_obj, (TVMFFIAny*)arguments + 2, count - 2, &nothing);
  syscall(CALL_ENDS);
  TVMFFIObjectDecRef(found.v_obj);
  *result = (TVMFFIAny){.type_index = kTVMFFIInt, .v_int64 = (int64_t)(noted->end.total - noted->begin.total)};
  return failed;
}

static void read_counts(const char* path) {
  int file = open(path, O_RDONLY);
  check(file >= 0, path);
  noted = mmap(NULL, sizeof(*noted), PROT_READ, MAP_SHARED, file, 0);
  check(noted != MAP_FAILED && close(file) == 0, path);
  publish("tvm_bnn.counter", made(counter));
  publish("tvm_bnn.count", made(count_call));
}

int main(int count, char** arguments) {
  if (getenv("TVM_BNN_COUNTS")) read_counts(getenv("TVM_BNN_COUNTS"));
  publish("tvm.rpc.server.workpath", made(place));
  publish("tvm.rpc.server.load_module", function("ffi.ModuleLoadFromFile"));
  int client = count > 1 ? atoi(arguments[1]) : connection();
  if (count == 1) greet(client);
  TVMFFIAny socket_number = {.type_index = kTVMFFIInt, .v_int64 = client}, nothing = {.type_index = kTVMFFINone};
  check(TVMFFIFunctionCall(function("rpc.ServerLoop"), &socket_number, 1, &nothing) == 0, "the session failed");
  return 0;
}
