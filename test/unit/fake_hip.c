// A HIP runtime without a GPU: device memory is host memory, every call is written to $FAKE_HIP_LOG, arguments are checked. Its one kernel,
// `double_it`, doubles the floats of its first buffer into its second. FAKE_HIP_FAIL=call:status makes a call fail.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, MEMORY = 2, NO_DEVICE = 100, IMAGE = 200, NOT_FOUND = 500, FAULT = 700 };
enum { QUEUE = 64 };

typedef struct { int alive; } Handle;
typedef struct { char kind; void *target; const void *source; size_t bytes; } Op;
typedef struct { Op ops[QUEUE]; int count; } Graph;

static Graph *capturing;
static int device;

static int status(const char *call, const char *detail) {
    const char *path = getenv("FAKE_HIP_LOG"), *fail = getenv("FAKE_HIP_FAIL");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (log) { fprintf(log, "%s %s\n", call, detail); fclose(log); }
    size_t n = strlen(call);
    return fail && !strncmp(fail, call, n) && fail[n] == ':' ? atoi(fail + n + 1) : OK;
}
#define BEGIN(...) char detail[256]; snprintf(detail, sizeof detail, __VA_ARGS__); int s = status(__func__, detail); if (s) return s
#define CHECK(c) if (!(c)) return INVALID

static int do_op(Op op) {
    if (capturing) { CHECK(capturing->count < QUEUE); capturing->ops[capturing->count++] = op; return OK; }
    if (op.kind == 'k') for (size_t i = 0; i < op.bytes; i++) ((float *)op.target)[i] = 2 * ((const float *)op.source)[i];
    else memmove(op.target, op.source, op.bytes);
    return OK;
}

const char *hipGetErrorName(int s) {
    switch (s) {
    case MEMORY: return "hipErrorOutOfMemory";
    case NO_DEVICE: return "hipErrorNoDevice";
    case IMAGE: return "hipErrorInvalidImage";
    case NOT_FOUND: return "hipErrorNotFound";
    case FAULT: return "hipErrorIllegalAddress";
    }
    return "hipErrorInvalidValue";
}
const char *hipGetErrorString(int s) { return s == MEMORY ? "out of memory" : "words"; }

int hipInit(unsigned f) { BEGIN("%u", f); CHECK(f == 0); return OK; }
int hipRuntimeGetVersion(int *v) { const char *e = getenv("FAKE_HIP_VERSION"); *v = e ? atoi(e) : 60342134; return OK; }
int hipGetDeviceCount(int *n) {
    const char *e = getenv("FAKE_HIP_ARCHS");
    *n = !e || *e;
    for (; e && *e; e++) *n += *e == ',';
    return *n ? OK : NO_DEVICE;
}
int hipGetDevice(int *d) { *d = device; return OK; }
int hipSetDevice(int d) { BEGIN("%d", d); device = d; return OK; }
int hipDeviceGetName(char *name, int n, int d) { snprintf(name, n, "Fake %d", d); return OK; }
int hipGetDevicePropertiesR0600(char *p, int d) {
    memset(p, 0, 1472);
    const char *e = getenv("FAKE_HIP_ARCHS");
    for (e = e ? e : "gfx942"; d; e++) d -= *e == ',';
    size_t n = strcspn(e, ",");
    memcpy(p + 1160, e, n);
    strcpy(p + 1160 + n, ":sramecc+:xnack-");
    return OK;
}
int hipDeviceGetAttribute(int *v, int a, int d) { CHECK(a == 19 && d >= 0); *v = 4096; return OK; }
int hipMemGetInfo(size_t *f, size_t *t) {
    const char *e = getenv("FAKE_HIP_FREE");
    *f = e ? strtoul(e, 0, 10) : 1 << 30;
    *t = 1 << 30;
    return OK;
}
int hipMalloc(void **p, size_t n) { BEGIN("%zu", n); *p = aligned_alloc(256, (n + 511) / 256 * 256); return *p ? OK : MEMORY; }
int hipFree(void *p) { BEGIN("%d", !!p); CHECK(p); free(p); return OK; }
int hipHostMalloc(void **p, size_t n, unsigned f) { BEGIN("%zu", n); CHECK(f == 0); *p = malloc(n + 1); return OK; }
int hipHostFree(void *p) { free(p); return OK; }
int hipMemcpyAsync(void *t, const void *f, size_t n, int kind, Handle *st) {
    BEGIN("%zu %d%s", n, kind, capturing ? " captured" : "");
    CHECK(t && f && kind >= 1 && kind <= 3 && st && st->alive);
    return do_op((Op){'c', t, f, n});
}
static int fill(void *t, unsigned v, size_t n, size_t width, Handle *st) {
    CHECK(t && (uintptr_t)t % width == 0 && st && st->alive && !capturing);
    for (size_t i = 0; i < n; i++) memcpy((char *)t + i * width, &v, width);
    return OK;
}
int hipMemsetD8Async(void *t, unsigned char v, size_t n, Handle *st) { BEGIN("%u %zu", v, n); return fill(t, v, n, 1, st); }
int hipMemsetD16Async(void *t, unsigned short v, size_t n, Handle *st) { BEGIN("%u %zu", v, n); return fill(t, v, n, 2, st); }
int hipMemsetD32Async(void *t, int v, size_t n, Handle *st) { BEGIN("%d %zu", v, n); return fill(t, v, n, 4, st); }
int hipPointerGetAttributes(int *a, void *p) { if ((uintptr_t)p < 4096) return INVALID; a[0] = 2; a[1] = device; return OK; }

static int make(Handle **h) { *h = malloc(sizeof **h); (*h)->alive = 1; return OK; }
static int end(Handle *h) { CHECK(h && h->alive); h->alive = 0; return OK; }
int hipStreamCreateWithFlags(Handle **h, unsigned f) { BEGIN("%u", f); CHECK(f == 1); return make(h); }
int hipStreamDestroy(Handle *h) { BEGIN("."); return end(h); }
int hipStreamSynchronize(Handle *h) { BEGIN("."); CHECK(h && h->alive && !capturing); return OK; }
int hipStreamWaitEvent(Handle *h, Handle *e, unsigned f) { BEGIN("."); CHECK(h->alive && e->alive && !f); return OK; }
int hipEventCreateWithFlags(Handle **h, unsigned f) { CHECK(f == 0 || f == 2); return make(h); }
int hipEventDestroy(Handle *h) { return end(h); }
int hipEventRecord(Handle *e, Handle *h) { BEGIN("."); CHECK(e->alive); return OK; }
int hipEventElapsedTime(float *ms, Handle *a, Handle *b) { CHECK(a->alive && b->alive); *ms = 0.5f; return OK; }

int hipModuleLoadData(char **m, const char *image) {
    BEGIN(".");
    if (memcmp(image, "\177ELF", 4)) return IMAGE;
    *m = strdup(image + 4);
    return OK;
}
int hipModuleUnload(char *m) { BEGIN("%s", m); free(m); return OK; }
int hipModuleGetFunction(char **f, char *m, const char *name) { BEGIN("%s", name); if (strcmp(m, name)) return NOT_FOUND; *f = m; return OK; }
int hipModuleLaunchKernel(char *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Handle *st,
                          void **params, void **extra) {
    BEGIN("%s %u %u %u%s", f, gx, bx, shared, capturing ? " captured" : "");
    CHECK(gy == 1 && gz == 1 && by == 1 && bz == 1 && st && st->alive && !extra && params[0] && params[1]);
    return do_op((Op){'k', *(void **)params[1], *(void **)params[0], (size_t)gx * bx});
}

int hipStreamBeginCapture(Handle *h, int mode) {
    BEGIN("%d", mode);
    CHECK(h->alive && mode == 2 && !capturing);
    capturing = calloc(1, sizeof(Graph));
    return OK;
}
int hipStreamEndCapture(Handle *h, Graph **g) { BEGIN("."); CHECK(h->alive && capturing); *g = capturing; capturing = NULL; return OK; }
int hipGraphInstantiate(Graph **e, Graph *g, void *node, char *log, size_t n) {
    BEGIN("%d", g->count);
    CHECK(!node && !log && !n);
    *e = malloc(sizeof **e);
    **e = *g;
    return OK;
}
int hipGraphLaunch(Graph *g, Handle *h) {
    BEGIN("%d", g->count);
    CHECK(h->alive && !capturing);
    for (int i = 0; i < g->count; i++) do_op(g->ops[i]);
    return OK;
}
int hipGraphDestroy(Graph *g) { BEGIN("."); free(g); return OK; }
int hipGraphExecDestroy(Graph *g) { BEGIN("."); free(g); return OK; }
