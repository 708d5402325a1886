/* A GPU that only writes down what it is told: as much of CUDA's driver and runtime as TVM calls.
 *
 * Built as libcudart.so.13, and found as libcuda.so.1 too, it is a device of compute capability 9.0 whose memory is the
 * processor's. Copies are made, kernels are not executed; but a launch is refused where a real one would fail: kernels
 * that the machine code does not have, blocks that are too large or have too many registers, addresses outside of
 * memory that is allocated. While a stream is captured, what CUDA forbids meanwhile is refused and spoils the capture.
 * Each event is a line of JSON; recorded() gives those since it was called last. (tests/cuda/fake_gpu.py builds it.)
 */
#define _GNU_SOURCE
#include <elf.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OK = 0, INVALID_VALUE = 1, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, OUT_OF_RESOURCES = 701, NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_IMPLICIT = 906,
};
enum { MOST_PARAMETERS = 64, MOST_BLOCKS = 4096, REGISTERS = 65536, MOST_THREADS = 1024, SHARED = 227 << 10 };

typedef struct { char *address; size_t size; } Block;
typedef struct { char name[256]; int parameters, registers, shared; int sizes[MOST_PARAMETERS]; } Kernel;
typedef struct { const Kernel *kernel; uint64_t values[MOST_PARAMETERS]; } Launch;
typedef struct { int id, launches; Launch *launch; } Graph;
typedef struct { unsigned grid[3], block[3], shared; void *stream, *attributes; unsigned count; } Configuration;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Block memory[MOST_BLOCKS];
static int blocks, threads, graphs, streams;
static __thread int thread;
static char *record, *taken;
static size_t record_size, record_room;
static void *capturing; /* the stream, null where none is */
static int spoilt;
static Graph *captured;

static void leave(pthread_mutex_t **held) { pthread_mutex_unlock(*held); }
#define ENTER __attribute__((cleanup(leave))) pthread_mutex_t *held = &mutex; pthread_mutex_lock(held)

static void put(const char *format, ...) {
    va_list values;
    if (record_room - record_size < 1024) record = realloc(record, record_room = 2 * record_room + 4096);
    va_start(values, format);
    record_size += vsnprintf(record + record_size, 1024, format, values);
    va_end(values);
}

static void begin(const char *event) {
    if (!thread) thread = ++threads;
    put("{\"event\": \"%s\", \"thread\": %d", event, thread);
}

static int refused(const char *what, int error) {
    begin("refused");
    put(", \"what\": \"%s\", \"error\": %d}\n", what, error);
    return error;
}

static int forbidden(const char *what) { /* while a stream is captured */
    if (!capturing) return OK;
    spoilt = 1;
    return refused(what, CAPTURE_UNSUPPORTED);
}

static int elsewhere(const char *what, void *stream) { /* work for another stream while one is captured */
    if (!capturing || stream == capturing) return OK;
    spoilt = 1;
    return refused(what, CAPTURE_IMPLICIT);
}

static int held_here(const void *address, size_t size) {
    for (int i = 0; i < blocks; i++)
        if ((const char *)address >= memory[i].address && (const char *)address + size <= memory[i].address + memory[i].size)
            return 1;
    return 0;
}

const char *recorded(void) {
    ENTER;
    free(taken);
    taken = record ? record : calloc(1, 1);
    record = NULL;
    record_size = record_room = 0;
    return taken;
}

void note(const char *event) { /* of the caller's, among the others */
    ENTER;
    begin(event);
    put("}\n");
}

/* --- devices, errors --- */

int cudaGetDeviceCount(int *count) { return *count = 1, OK; }
int cudaGetDevice(int *device) { return *device = 0, OK; }
int cudaSetDevice(int device) { return device ? INVALID_VALUE : OK; }
int cudaGetDeviceProperties(void *properties, int device) { return (void)properties, (void)device, NOT_SUPPORTED; }
int cudaGetLastError(void) { return OK; }
int cudaPeekAtLastError(void) { return OK; }
const char *cudaGetErrorName(int error) { return error ? "cudaErrorOfTheFakeDriver" : "cudaSuccess"; }
const char *cudaGetErrorString(int error) { return error ? "see the record" : "no error"; }
int cuGetErrorName(int error, const char **name) { return *name = error ? "CUDA_ERROR" : "CUDA_SUCCESS", OK; }
int cuGetErrorString(int error, const char **text) { return *text = error ? "see the record" : "no error", OK; }
int cuDeviceGetName(char *name, int room, int device) { return (void)device, snprintf(name, room, "a fake GPU"), OK; }
int cuTensorMapEncodeTiled(void) { return NOT_SUPPORTED; }

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    static const int known[][2] = {{1, MOST_THREADS}, {2, 1024}, {3, 1024}, {4, 64}, {8, 48 << 10}, {10, 32},
        {12, REGISTERS}, {13, 1000000}, {16, 132}, {38, 50 << 20}, {75, 9}, {76, 0}, {97, SHARED}};
    (void)device;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i][0] == attribute) return *value = known[i][1], OK;
    return INVALID_VALUE;
}

/* --- memory --- */

int cudaMemGetInfo(size_t *unused, size_t *total) { return *unused = *total = (size_t)1 << 36, OK; }

int cudaMalloc(void **address, size_t size) {
    ENTER;
    int error = forbidden("malloc");
    if (error) return error;
    if (blocks == MOST_BLOCKS || posix_memalign(address, 256, size ? size : 1)) return 2;
    memory[blocks++] = (Block){*address, size};
    begin("malloc");
    put(", \"size\": %zu}\n", size);
    return OK;
}

int cudaFree(void *address) {
    ENTER;
    int error = forbidden("free");
    if (error || !address) return error;
    for (int i = 0; i < blocks; i++)
        if (memory[i].address == address) {
            begin("free");
            put(", \"size\": %zu}\n", memory[i].size);
            memory[i] = memory[--blocks];
            free(address);
            return OK;
        }
    return refused("free", INVALID_VALUE);
}

int cudaMallocHost(void **address, size_t size) { return posix_memalign(address, 256, size) ? 2 : OK; }
int cudaFreeHost(void *address) { return free(address), OK; }

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) { /* 1: there, 2: back, 3: both */
    ENTER;
    int error = forbidden("copy");
    if (error) return error;
    if (((kind & 1) && !held_here(to, size)) || ((kind & 2) && !held_here(from, size)))
        return refused("copy", ILLEGAL_ADDRESS);
    memcpy(to, from, size);
    begin("copy");
    put(", \"kind\": %d, \"size\": %zu, \"stream\": %d}\n", kind, size, stream != NULL);
    return OK;
}

int cudaMemcpyPeerAsync(void) { return NOT_SUPPORTED; }

/* --- streams, events --- */

int cudaStreamCreate(void **stream) { return *stream = (void *)(uintptr_t)(4096 + ++streams), OK; }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return (void)flags, cudaStreamCreate(stream); }
int cudaStreamDestroy(void *stream) { return stream ? OK : INVALID_VALUE; }
int cudaStreamWaitEvent(void) { return OK; }
int cudaEventCreate(void **event) { return *event = &streams, OK; }
int cudaEventDestroy(void *event) { return (void)event, OK; }
int cudaEventElapsedTime(float *milliseconds) { return *milliseconds = 0, OK; }

int cudaStreamSynchronize(void *stream) {
    ENTER;
    int error = forbidden("synchronize");
    if (error) return error;
    begin("synchronize");
    put(", \"stream\": %d}\n", stream != NULL);
    return OK;
}

int cudaEventRecord(void *event, void *stream) {
    ENTER;
    return (void)event, elsewhere("record an event", stream);
}

int cudaEventSynchronize(void *event) {
    ENTER;
    return (void)event, forbidden("wait for an event");
}

/* --- modules: what a cubin says of its kernels --- */

int cuModuleLoadData(void **module, const void *image) {
    ENTER;
    int error = forbidden("load a module");
    if (error) return error;
    if (memcmp(image, ELFMAG, SELFMAG)) return refused("load a module", INVALID_VALUE);
    begin("module");
    put("}\n");
    return *module = (void *)image, OK;
}

int cuModuleUnload(void *module) { return (void)module, OK; }
int cuFuncSetAttribute(Kernel *kernel, int what, int value) {
    if (what == 8 && value <= SHARED) kernel->shared = value;
    return what == 8 && value > SHARED ? INVALID_VALUE : OK;
}

static const char *section(const char *image, const char *prefix, const char *name, const Elf64_Shdr **found) {
    const Elf64_Ehdr *head = (const void *)image;
    const Elf64_Shdr *all = (const void *)(image + head->e_shoff);
    char wanted[512];
    snprintf(wanted, sizeof wanted, "%s%s", prefix, name);
    for (int i = 0; i < head->e_shnum; i++)
        if (!strcmp(image + all[head->e_shstrndx].sh_offset + all[i].sh_name, wanted))
            return *found = all + i, image + all[i].sh_offset;
    return NULL;
}

int cuModuleGetFunction(Kernel **made, void *module, const char *name) {
    ENTER;
    enum { SIZED = 4, PARAMETER = 0x17 };
    const Elf64_Shdr *code, *info;
    const char *at = section(module, ".text.", name, &code) ? section(module, ".nv.info.", name, &info) : NULL;
    if (!at) return refused("find a kernel", NOT_FOUND);
    Kernel *kernel = calloc(1, sizeof *kernel);
    snprintf(kernel->name, sizeof kernel->name, "%s", name);
    kernel->registers = code->sh_info >> 24;
    kernel->shared = 48 << 10;
    for (const char *end = at + info->sh_size; at < end;) { /* form, attribute, and 16 bits: a value or a size */
        uint16_t size, ordinal;
        uint32_t packed;
        memcpy(&size, at + 2, 2);
        if (at[0] == SIZED && (unsigned char)at[1] == PARAMETER) {
            memcpy(&ordinal, at + 8, 2);
            memcpy(&packed, at + 12, 4);
            kernel->sizes[ordinal] = packed >> 18;
            if (ordinal >= kernel->parameters) kernel->parameters = ordinal + 1;
        }
        at += 4 + (at[0] == SIZED ? size : 0);
    }
    return *made = kernel, OK;
}

/* --- launches --- */

static int addresses_hold(const Launch *launch) {
    if (!launch->kernel->parameters) return 0; /* every kernel of ours writes something */
    for (int i = 0; i < launch->kernel->parameters; i++)
        if (launch->kernel->sizes[i] == 8 && !held_here((void *)launch->values[i], 1)) return 0;
    return 1;
}

int cuLaunchKernelEx(const Configuration *how, Kernel *kernel, void **values, void **extra) {
    ENTER;
    int error = elsewhere("launch", how->stream);
    unsigned size = how->block[0] * how->block[1] * how->block[2];
    (void)extra;
    if (error) return error;
    if (!size || size > MOST_THREADS || size * kernel->registers > REGISTERS || how->shared > (unsigned)kernel->shared)
        return refused(kernel->name, OUT_OF_RESOURCES);
    if (!how->grid[0] || !how->grid[1] || !how->grid[2] || how->grid[1] > 65535 || how->grid[2] > 65535)
        return refused(kernel->name, INVALID_VALUE);
    Launch launch = {.kernel = kernel};
    for (int i = 0; i < kernel->parameters; i++) memcpy(launch.values + i, values[i], kernel->sizes[i]);
    if (!addresses_hold(&launch)) return refused(kernel->name, ILLEGAL_ADDRESS);
    if (capturing) {
        captured->launch = realloc(captured->launch, (captured->launches + 1) * sizeof launch);
        captured->launch[captured->launches++] = launch;
    }
    begin(capturing ? "captured" : "launch");
    put(", \"kernel\": \"%s\", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], \"shared\": %u, \"stream\": %d}\n",
        kernel->name, how->grid[0], how->grid[1], how->grid[2], how->block[0], how->block[1], how->block[2], how->shared,
        how->stream != NULL);
    return OK;
}

/* --- graphs --- */

int cudaStreamBeginCapture(void *stream, int mode) {
    ENTER;
    (void)mode;
    if (!stream || capturing) return refused("begin to capture", CAPTURE_UNSUPPORTED);
    capturing = stream;
    spoilt = 0;
    captured = calloc(1, sizeof *captured);
    captured->id = ++graphs;
    begin("begin");
    put("}\n");
    return OK;
}

int cudaStreamEndCapture(void *stream, Graph **graph) {
    ENTER;
    if (stream != capturing) return refused("end a capture", INVALID_VALUE);
    capturing = NULL;
    *graph = spoilt ? NULL : captured;
    begin("end");
    put(", \"graph\": %d, \"launches\": %d}\n", captured->id, captured->launches);
    return spoilt ? CAPTURE_INVALIDATED : OK;
}

int cudaGraphInstantiate(Graph **made, Graph *graph) {
    ENTER;
    if (!graph) return refused("make a graph", INVALID_VALUE);
    return *made = graph, OK;
}

int cudaGraphDestroy(Graph *graph) { return (void)graph, OK; }

int cudaGraphExecDestroy(Graph *graph) {
    ENTER;
    begin("destroy");
    put(", \"graph\": %d}\n", graph->id);
    return OK;
}

int cudaGraphLaunch(Graph *graph, void *stream) {
    ENTER;
    int error = elsewhere("launch a graph", stream);
    if (error) return error;
    for (int i = 0; i < graph->launches; i++)
        if (!addresses_hold(graph->launch + i)) return refused(graph->launch[i].kernel->name, ILLEGAL_ADDRESS);
    begin("graph");
    put(", \"graph\": %d, \"launches\": %d, \"stream\": %d, \"kernels\": [", graph->id, graph->launches, stream != NULL);
    for (int i = 0; i < graph->launches; i++) put("%s\"%s\"", i ? ", " : "", graph->launch[i].kernel->name);
    put("]}\n");
    return OK;
}
