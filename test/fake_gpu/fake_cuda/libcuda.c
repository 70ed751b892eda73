/* A CUDA driver in host memory, for tests: libcuda.so.1 with the calls of runtime/tensorrt/driver.py.
 *
 * Names, signatures and codes are those of NVIDIA's cuda.h (11.7 and 13.0 compared). Streams do
 * nothing until somebody waits for an event, a graph holds what was enqueued while it was recorded,
 * a context lives as long as somebody retains it and takes everything in it along. Each call is
 * recorded with its thread. What a program must never do is refused and noted as a violation.
 *
 * Environment: FAKE_GPUS, "name,major.minor,multiprocessors,l2_kib,memory_mib,pci_bus;..." in the
 * order in which CUDA counts them; an empty one means no GPU. The calls fake_* are for tests.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    ILLEGAL_STATE = 401,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
};

enum { DEVICES = 8, OBJECTS = 512, CALLS = 65536, NAME = 48, OPERATIONS = 32, NOTES = 64 };
enum { FREE = 0, STREAM, EVENT, GRAPH, EXEC, DEVICE_MEMORY, HOST_MEMORY };
enum { BLOCKING_SYNC = 4, NON_BLOCKING = 1, EVENT_BLOCKING = 1, THREAD_LOCAL = 1 };

typedef struct {
    void (*function)(void *);
    void *argument; /* or the target of a copy */
    const void *source;
    size_t size;
} Operation;

typedef struct {
    int kind, device;
    void *address; /* of memory */
    size_t size;
    Operation operations[OPERATIONS]; /* of a stream: pending; of a graph: its content */
    int count;
    Operation recorded[OPERATIONS]; /* of a stream that records */
    int recording, recorded_count, invalid;
    int stream; /* of an event: the object it was recorded in, -1 before */
} Object;

typedef struct {
    char name[100];
    int major, minor, multiprocessors, l2_kib, memory_mib, bus;
    int retained, flags;
} Device;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static Device devices[DEVICES];
static int device_count, initialised, driver_version = 12060;
static Object objects[OBJECTS];
static struct { char name[NAME]; long thread; } calls[CALLS];
static int call_count;
static char notes[NOTES][160];
static int note_count;
static struct { char name[NAME]; int code; } failures[32];
static int failure_count, poison;
static int block_next, blocked, wait_ms;
static size_t limit = SIZE_MAX, in_use, most_in_use;
static int executed;
static __thread int current = -1; /* device whose context this thread has */

/* ---- for tests ---------------------------------------------------------------------------- */

static void note(const char *call, const char *what) {
    if (note_count < NOTES) snprintf(notes[note_count++], sizeof notes[0], "%s: %s", call, what);
}

void fake_record(const char *name) {
    pthread_mutex_lock(&lock);
    if (call_count < CALLS) {
        snprintf(calls[call_count].name, NAME, "%s", name);
        calls[call_count++].thread = syscall(SYS_gettid);
    }
    pthread_mutex_unlock(&lock);
}

int fake_calls(void) { return call_count; }
const char *fake_call(int index) { return calls[index].name; }
long fake_thread(int index) { return calls[index].thread; }
void fake_forget_calls(void) { call_count = 0; }
int fake_violations(void) { return note_count; }
const char *fake_violation(int index) { return notes[index]; }
int fake_executed(void) { return executed; }
void fake_version(int version) { driver_version = version; }
void fake_limit(size_t bytes) { limit = bytes; }
size_t fake_most_in_use(void) { return most_in_use; }
int fake_current(void) { return current; }
int fake_retained(int device) { return devices[device].retained; }

void fake_fail(const char *name, int code) { /* code 0: it works again */
    pthread_mutex_lock(&lock);
    snprintf(failures[failure_count].name, NAME, "%s", name);
    failures[failure_count++].code = code;
    pthread_mutex_unlock(&lock);
}

void fake_fail_nothing(void) { failure_count = 0; }

/* Every call in a context fails with `code` from now on: the errors of which cuda.h says that they
 * leave the process in an inconsistent state, and that it must be relaunched. */
void fake_poison(int code) { poison = code; }

void fake_block(void) { block_next = 1; }

void fake_wait_ms(int milliseconds) { wait_ms = milliseconds; } /* how long each wait takes */

void fake_unblock(void) {
    pthread_mutex_lock(&lock);
    block_next = blocked = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

int fake_blocked(void) { return blocked; }

int fake_live(int *handles, void **addresses, int most) { /* handles: their kinds */
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < OBJECTS && found < most; i++)
        if (objects[i].kind != FREE) {
            handles[found] = objects[i].kind;
            addresses[found++] = objects[i].kind >= DEVICE_MEMORY ? objects[i].address : &objects[i];
        }
    pthread_mutex_unlock(&lock);
    return found;
}

/* ---- inside ------------------------------------------------------------------------------- */

static int enter(const char *name) { /* locks; returns the code that a test asked for */
    fake_record(name);
    pthread_mutex_lock(&lock);
    for (int i = failure_count - 1; i >= 0; i--)
        if (!strcmp(failures[i].name, name)) return failures[i].code;
    return initialised || !strcmp(name, "cuInit") || !strcmp(name, "cuDriverGetVersion")
               ? SUCCESS : NOT_INITIALIZED;
}

static int leave(int code) {
    pthread_mutex_unlock(&lock);
    return code;
}

static int in_context(const char *name) { /* as enter, for calls that need a current context */
    int code = enter(name);
    if (code) return code;
    if (current < 0 || !devices[current].retained) {
        note(name, "without a current context");
        return INVALID_CONTEXT;
    }
    return poison;
}

static Object *make(int kind) {
    for (int i = 0; i < OBJECTS; i++)
        if (objects[i].kind == FREE) {
            memset(&objects[i], 0, sizeof objects[i]);
            objects[i].kind = kind;
            objects[i].device = current;
            objects[i].stream = -1;
            return &objects[i];
        }
    return NULL;
}

static Object *known(const char *name, void *handle, int kind) {
    Object *object = handle;
    if (object >= objects && object < objects + OBJECTS && object->kind == kind) {
        if (object->device == current) return object;
        note(name, "a handle of another context");
        return NULL;
    }
    note(name, "no such handle: freed before, or never made");
    return NULL;
}

static Object *memory_at(const void *address, int kind) {
    for (int i = 0; i < OBJECTS; i++)
        if (objects[i].kind == kind && objects[i].address == address) return &objects[i];
    return NULL;
}

static void destroy(Object *object) {
    if (object->kind == DEVICE_MEMORY) in_use -= object->size;
    if (object->kind >= DEVICE_MEMORY) free(object->address);
    object->kind = FREE;
}

static int release(const char *name, void *handle, int kind) {
    int code = in_context(name);
    if (!code) {
        Object *object = known(name, handle, kind);
        if (object) destroy(object);
        else code = INVALID_HANDLE;
    }
    return leave(code);
}

static int enqueue(const char *name, void *handle, Operation operation) { /* locked */
    Object *stream = known(name, handle, STREAM);
    if (!stream) return INVALID_HANDLE;
    Operation *list = stream->recording ? stream->recorded : stream->operations;
    int *count = stream->recording ? &stream->recorded_count : &stream->count;
    if (*count == OPERATIONS) return OUT_OF_MEMORY;
    list[(*count)++] = operation;
    return SUCCESS;
}

static void read_devices(void) {
    static char before[1024];
    const char *text = getenv("FAKE_GPUS");
    char copy[1024], *rest = copy, *one;
    snprintf(copy, sizeof copy, "%s", text ? text : "Fake GPU,8.7,16,4096,62800,1");
    if (!strcmp(copy, before)) return;
    strcpy(before, copy);
    memset(devices, 0, sizeof devices);
    device_count = 0;
    while ((one = strsep(&rest, ";")) && device_count < DEVICES) {
        Device *d = &devices[device_count];
        if (sscanf(one, "%99[^,],%d.%d,%d,%d,%d,%d", d->name, &d->major, &d->minor,
                   &d->multiprocessors, &d->l2_kib, &d->memory_mib, &d->bus) == 7)
            device_count++;
    }
}

/* ---- the driver --------------------------------------------------------------------------- */

int cuInit(unsigned flags) {
    int code = enter("cuInit");
    if (!code && !initialised) {
        read_devices();
        initialised = device_count > 0;
        if (!device_count) code = NO_DEVICE;
    }
    return leave(flags ? INVALID_VALUE : code);
}

int cuDriverGetVersion(int *version) {
    int code = enter("cuDriverGetVersion");
    *version = driver_version;
    return leave(code);
}

int cuDeviceGetCount(int *count) {
    int code = enter("cuDeviceGetCount");
    if (!code) read_devices(); /* another machine, for tests that move an engine there */
    *count = device_count;
    return leave(code);
}

int cuDeviceGet(int *device, int ordinal) {
    int code = enter("cuDeviceGet");
    if (!code && (ordinal < 0 || ordinal >= device_count)) code = INVALID_DEVICE;
    *device = ordinal;
    return leave(code);
}

int cuDeviceGetName(char *name, int length, int device) {
    int code = enter("cuDeviceGetName");
    snprintf(name, length, "%s", devices[device].name);
    return leave(code);
}

int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    int code = enter("cuDeviceGetUuid_v2");
    for (int i = 0; i < 16; i++) uuid[i] = 0xA0 + i;
    uuid[0] = 0x10 + devices[device].bus;
    return leave(code);
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    int code = enter("cuDeviceTotalMem_v2");
    *bytes = (size_t)devices[device].memory_mib << 20;
    return leave(code);
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int code = enter("cuDeviceGetAttribute");
    Device *d = &devices[device];
    switch (attribute) {
        case 16: *value = d->multiprocessors; break;
        case 33: *value = d->bus; break;
        case 34: case 50: *value = 0; break; /* PCI device and domain */
        case 38: *value = d->l2_kib << 10; break;
        case 75: *value = d->major; break;
        case 76: *value = d->minor; break;
        default: code = INVALID_VALUE;
    }
    return leave(code);
}

int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
    int code = enter("cuDevicePrimaryCtxSetFlags_v2");
    devices[device].flags = flags;
    return leave(code);
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    int code = enter("cuDevicePrimaryCtxRetain");
    if (!code) {
        if (!devices[device].flags) note("cuDevicePrimaryCtxRetain", "waits would spin");
        devices[device].retained++;
        *context = &devices[device];
    }
    return leave(code);
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    int code = enter("cuDevicePrimaryCtxRelease_v2");
    if (!code && !devices[device].retained) {
        note("cuDevicePrimaryCtxRelease_v2", "more often than retained");
        code = INVALID_CONTEXT;
    }
    if (!code && !--devices[device].retained) {
        for (int i = 0; i < OBJECTS; i++)
            if (objects[i].kind != FREE && objects[i].device == device) {
                if (!poison) note("cuDevicePrimaryCtxRelease_v2", "something is still allocated");
                destroy(&objects[i]);
            }
    }
    return leave(code);
}

int cuCtxSetCurrent(void *context) {
    int code = enter("cuCtxSetCurrent");
    if (!code) current = context ? (int)((Device *)context - devices) : -1;
    return leave(code);
}

static int allocate(const char *name, int kind, size_t size, void **address) {
    int code = in_context(name);
    if (!code && !size) code = INVALID_VALUE;
    if (!code && kind == DEVICE_MEMORY && (size > limit || in_use > limit - size))
        code = OUT_OF_MEMORY;
    if (!code) {
        Object *memory = make(kind);
        memory->address = *address = malloc(size);
        memory->size = size;
        memset(*address, 0xAA, size < 64 ? size : 64);
        if (kind == DEVICE_MEMORY) in_use += size;
        if (in_use > most_in_use) most_in_use = in_use;
    }
    return leave(code);
}

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    void *made = NULL;
    int code = allocate("cuMemAlloc_v2", DEVICE_MEMORY, size, &made);
    *address = (uint64_t)(uintptr_t)made;
    return code;
}

int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    (void)flags;
    return allocate("cuMemHostAlloc", HOST_MEMORY, size, address);
}

static int free_memory(const char *name, int kind, void *address) {
    int code = in_context(name);
    Object *memory = memory_at(address, kind);
    if (!code && !memory) {
        note(name, "no such memory: freed before, or never made");
        code = INVALID_VALUE;
    }
    if (!code) destroy(memory);
    return leave(code);
}

int cuMemFree_v2(uint64_t address) {
    return free_memory("cuMemFree_v2", DEVICE_MEMORY, (void *)(uintptr_t)address);
}

int cuMemFreeHost(void *address) { return free_memory("cuMemFreeHost", HOST_MEMORY, address); }

static int copy(const char *name, void *to, const void *from, size_t size, void *stream,
                int to_kind, int from_kind) {
    int code = in_context(name);
    Object *target = memory_at(to, to_kind), *source = memory_at(from, from_kind);
    if (!code && (!target || !source || target->size < size || source->size < size)) {
        note(name, "past the end, or not the memory it says");
        code = INVALID_VALUE;
    }
    if (!code) code = enqueue(name, stream, (Operation){NULL, to, from, size});
    return leave(code);
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    return copy("cuMemcpyHtoDAsync_v2", (void *)(uintptr_t)to, from, size, stream, DEVICE_MEMORY,
                HOST_MEMORY);
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    return copy("cuMemcpyDtoHAsync_v2", to, (void *)(uintptr_t)from, size, stream, HOST_MEMORY,
                DEVICE_MEMORY);
}

/* As cuLaunchHostFunc: how the fake TensorRT enqueues its work. */
int cuLaunchHostFunc(void *stream, void (*function)(void *), void *argument) {
    int code = in_context("cuLaunchHostFunc");
    if (!code) {
        code = enqueue("cuLaunchHostFunc", stream, (Operation){function, argument, NULL, 0});
    }
    return leave(code);
}

int cuStreamCreate(void **stream, unsigned flags) {
    int code = in_context("cuStreamCreate");
    if (!(flags & NON_BLOCKING)) note("cuStreamCreate", "waits for the default stream");
    if (!code) *stream = make(STREAM);
    return leave(code);
}

int cuStreamDestroy_v2(void *stream) { return release("cuStreamDestroy_v2", stream, STREAM); }

int cuEventCreate(void **event, unsigned flags) {
    int code = in_context("cuEventCreate");
    if (!(flags & EVENT_BLOCKING)) note("cuEventCreate", "its waiters spin");
    if (!code) *event = make(EVENT);
    return leave(code);
}

int cuEventDestroy_v2(void *event) { return release("cuEventDestroy_v2", event, EVENT); }

int cuEventRecord(void *handle, void *stream) {
    int code = in_context("cuEventRecord");
    Object *event = code ? NULL : known("cuEventRecord", handle, EVENT);
    Object *in = code ? NULL : known("cuEventRecord", stream, STREAM);
    if (!code && (!event || !in)) code = INVALID_HANDLE;
    if (!code) event->stream = (int)(in - objects);
    return leave(code);
}

static void work(Object *stream) { /* locked; unlocked while Python is called */
    Operation pending[OPERATIONS];
    int count = stream->count;
    memcpy(pending, stream->operations, sizeof pending);
    stream->count = 0;
    for (int i = 0; i < count; i++) {
        if (!pending[i].function) {
            memcpy(pending[i].argument, pending[i].source, pending[i].size);
            continue;
        }
        pthread_mutex_unlock(&lock);
        pending[i].function(pending[i].argument);
        pthread_mutex_lock(&lock);
    }
    executed++;
}

int cuEventSynchronize(void *handle) {
    int code = in_context("cuEventSynchronize");
    Object *event = code ? NULL : known("cuEventSynchronize", handle, EVENT);
    if (!code && !event) code = INVALID_HANDLE;
    if (!code && wait_ms) {
        pthread_mutex_unlock(&lock);
        usleep(1000 * wait_ms);
        pthread_mutex_lock(&lock);
    }
    if (!code && block_next) {
        block_next = 0;
        blocked = 1;
        while (blocked) pthread_cond_wait(&changed, &lock);
        code = poison;
    }
    if (!code && event->stream >= 0) work(&objects[event->stream]);
    return leave(code);
}

int cuStreamBeginCapture_v2(void *handle, int mode) {
    int code = in_context("cuStreamBeginCapture_v2");
    Object *stream = code ? NULL : known("cuStreamBeginCapture_v2", handle, STREAM);
    if (mode != THREAD_LOCAL) note("cuStreamBeginCapture_v2", "not thread-local");
    if (stream && stream->count) note("cuStreamBeginCapture_v2", "before the first run is over");
    if (!code && !stream) code = INVALID_HANDLE;
    if (!code && stream->recording) code = ILLEGAL_STATE;
    if (!code) stream->recording = 1, stream->recorded_count = stream->invalid = 0;
    return leave(code);
}

int fake_recording(void *handle) { return ((Object *)handle)->recording; }

int fake_invalidate(void *handle) { return ((Object *)handle)->invalid = 1; }

int cuStreamEndCapture(void *handle, void **graph) {
    int code = in_context("cuStreamEndCapture");
    Object *stream = code ? NULL : known("cuStreamEndCapture", handle, STREAM);
    *graph = NULL;
    if (!code && !stream) code = INVALID_HANDLE;
    if (!code && !stream->recording) code = ILLEGAL_STATE;
    if (!code) {
        stream->recording = 0;
        if (stream->invalid) return leave(CAPTURE_INVALIDATED);
        Object *made = make(GRAPH);
        memcpy(made->operations, stream->recorded, sizeof made->operations);
        made->count = stream->recorded_count;
        *graph = made;
    }
    return leave(code);
}

int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) {
    int code = in_context("cuGraphInstantiateWithFlags");
    Object *of = code ? NULL : known("cuGraphInstantiateWithFlags", graph, GRAPH);
    *exec = NULL;
    if (!code && (!of || flags)) code = INVALID_VALUE;
    if (!code) {
        Object *made = make(EXEC);
        memcpy(made->operations, of->operations, sizeof made->operations);
        made->count = of->count;
        *exec = made;
    }
    return leave(code);
}

int cuGraphDestroy(void *graph) { return release("cuGraphDestroy", graph, GRAPH); }

int cuGraphExecDestroy(void *exec) { return release("cuGraphExecDestroy", exec, EXEC); }

int cuGraphLaunch(void *handle, void *stream) {
    int code = in_context("cuGraphLaunch");
    Object *exec = code ? NULL : known("cuGraphLaunch", handle, EXEC);
    if (!code && !exec) code = INVALID_HANDLE;
    for (int i = 0; !code && i < exec->count; i++)
        code = enqueue("cuGraphLaunch", stream, exec->operations[i]);
    return leave(code);
}

static const struct { int code; const char *name, *text; } errors[] = {
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the state"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static int described(int code, const char **answer, int name) {
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].code == code) {
            *answer = name ? errors[i].name : errors[i].text;
            return SUCCESS;
        }
    *answer = NULL;
    return INVALID_VALUE;
}

int cuGetErrorName(int code, const char **name) { return described(code, name, 1); }

int cuGetErrorString(int code, const char **text) { return described(code, text, 0); }
