/* One session of TVM's RPC protocol, without Python: it is compiled for AArch64 and runs under qemu-user.
 *
 * It listens on a free port of this machine, prints the port, serves the first client that connects, and ends. A file
 * that the client uploads has the name that the client gives it. In C, because the C library is all that a cross
 * compiler then has to bring.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <tvm/ffi/c_api.h>

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

/* The place of an uploaded file: its name. */
static int place(void* self, const TVMFFIAny* arguments, int32_t count, TVMFFIAny* result) {
  (void)self;
  if (count == 1) return TVMFFIAnyViewToOwnedAny(&arguments[0], result);
  TVMFFIErrorSetRaisedFromCStr("TypeError", "one name is expected");
  return -1;
}

int main(void) {
  TVMFFIObjectHandle own = NULL;
  check(TVMFFIFunctionCreate(NULL, place, NULL, &own) == 0, "cannot make a function");
  publish("tvm.rpc.server.workpath", own);
  publish("tvm.rpc.server.load_module", function("ffi.ModuleLoadFromFile"));
  int client = connection();
  greet(client);
  TVMFFIAny socket_number = {.type_index = kTVMFFIInt, .v_int64 = client}, nothing = {.type_index = kTVMFFINone};
  check(TVMFFIFunctionCall(function("rpc.ServerLoop"), &socket_number, 1, &nothing) == 0, "the session failed");
  return 0;
}
