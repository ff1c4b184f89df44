/* A libnvidia-ml.so.1 whose GPUs stand in the file $NVML_STUB, read again on every call so that they change live.
 *
 *   uuid|name|total MiB|used MiB|utilisation %|temperature °C|power mW|pid:MiB,pid:MiB,…
 *
 * is a GPU, or, if the UUID begins with MIG-, an instance of the GPU above it. `gPID:MiB` is a process that draws,
 * `PID:?` one whose memory is not told, `-` a figure that is not told (`-` for the processes too). A line `lost` in
 * place of a GPU is one that fell off the bus. A line `init N` makes the initialisation return N, `count N` makes the
 * counting of GPUs return it, `hang` makes every call wait until the line is gone.
 * Build: gcc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 stub.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, UNINITIALISED = 1, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15, MAX = 32 };

typedef struct { unsigned pid; unsigned long long used; int draws; } holder;
typedef struct {
  char uuid[96], name[96], total[16], used[16], busy[16], heat[16], power[16], processes[512];
  holder holders[16];
  unsigned held;
  int is_lost, board; /* of an instance: where its board stands; of a board: -1 */
} gpu;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned gpu, memory; } rates;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process;

static gpu gpus[MAX];
static int lines, init_code, count_code, is_open;

static void read_holders(gpu *g) {
  char *rest = g->processes, *one;
  g->held = 0;
  while (strcmp(g->processes, "-") && g->held < 16 && (one = strsep(&rest, ","))) {
    holder *h = &g->holders[g->held];
    char size[16];
    h->draws = *one == 'g';
    if (sscanf(one + h->draws, "%u:%15s", &h->pid, size) != 2) continue;
    h->used = *size == '?' ? ~0ULL : strtoull(size, 0, 10) << 20;
    g->held++;
  }
}

static int look(void) {
  char line[1024];
  FILE *file = fopen(getenv("NVML_STUB"), "r");
  int hangs = 0, board = -1;
  lines = init_code = count_code = 0;
  while (file && lines < MAX && fgets(line, sizeof line, file)) {
    gpu *g = &gpus[lines];
    line[strcspn(line, "\n")] = 0;
    if (!strcmp(line, "hang")) hangs = 1;
    if (sscanf(line, "init %d", &init_code) == 1 || sscanf(line, "count %d", &count_code) == 1) continue;
    memset(g, 0, sizeof *g);
    g->is_lost = !strcmp(line, "lost");
    if (!g->is_lost && sscanf(line, "%95[^|]|%95[^|]|%15[^|]|%15[^|]|%15[^|]|%15[^|]|%15[^|]|%511[^|]", g->uuid,
                              g->name, g->total, g->used, g->busy, g->heat, g->power, g->processes) < 7)
      continue;
    read_holders(g);
    g->board = strncmp(g->uuid, "MIG-", 4) ? -1 : board;
    if (g->board < 0) board = lines;
    lines++;
  }
  if (file) fclose(file);
  return hangs;
}

static void read_file(void) {
  while (look()) nanosleep(&(struct timespec){0, 10000000}, 0);
}

static int of(void *handle, gpu **g) {
  long line = (long)handle - 1;
  if (!is_open) return UNINITIALISED;
  read_file();
  if (line < 0 || line >= lines) return INVALID;
  *g = &gpus[line];
  return (*g)->is_lost ? LOST : OK;
}

static int told(const char *text, unsigned *value) {
  if (!strcmp(text, "-")) return UNSUPPORTED;
  *value = (unsigned)atoi(text);
  return OK;
}

/* The line of the n-th GPU, or of the n-th instance of the GPU in line `board`. */
static int nth(unsigned n, int board) {
  for (int line = 0; line < lines; line++)
    if (gpus[line].board == board && n-- == 0) return line;
  return -1;
}

#define GPU gpu *g; int code = of(handle, &g); if (code) return code

int nvmlInitWithFlags(unsigned flags) { (void)flags; read_file(); is_open = !init_code; return init_code; }
int nvmlShutdown(void) { is_open = 0; return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "Error"; }
int nvmlDeviceGetCount_v2(unsigned *n) {
  if (!is_open) return UNINITIALISED;
  read_file();
  for (*n = 0; nth(*n, -1) >= 0;) ++*n;
  return count_code;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
  read_file();
  int line = nth(index, -1);
  if (line < 0) return INVALID;
  *handle = (void *)(long)(line + 1);
  return gpus[line].is_lost ? LOST : OK;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *later) { GPU; *now = *later = nth(0, (int)(g - gpus)) >= 0; return OK; }
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *n) { GPU; *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **instance) {
  GPU;
  int line = nth(index, (int)(g - gpus));
  if (line < 0) return NOT_FOUND;
  *instance = (void *)(long)(line + 1);
  return OK;
}
int nvmlDeviceGetUUID(void *handle, char *to, unsigned size) { GPU; snprintf(to, size, "%s", g->uuid); return OK; }
int nvmlDeviceGetName(void *handle, char *to, unsigned size) { GPU; snprintf(to, size, "%s", g->name); return OK; }
int nvmlDeviceGetMemoryInfo(void *handle, memory *m) {
  GPU;
  if (!strcmp(g->total, "-")) return UNSUPPORTED;
  m->total = strtoull(g->total, 0, 10) << 20;
  m->used = strtoull(g->used, 0, 10) << 20;
  m->free = m->total - m->used;
  return OK;
}
int nvmlDeviceGetUtilizationRates(void *handle, rates *r) { GPU; r->memory = 0; return told(g->busy, &r->gpu); }
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *t) { GPU; (void)sensor; return told(g->heat, t); }
int nvmlDeviceGetPowerUsage(void *handle, unsigned *mw) { GPU; return told(g->power, mw); }

static int list(void *handle, unsigned *n, process *to, int draws) {
  GPU;
  unsigned room = *n;
  if (!strcmp(g->processes, "-")) return UNSUPPORTED;
  *n = 0;
  for (unsigned i = 0; i < g->held; i++) {
    if (g->holders[i].draws != draws) continue;
    if (to && *n < room) to[*n] = (process){g->holders[i].pid, g->holders[i].used, ~0U, ~0U};
    ++*n;
  }
  return *n > room ? TOO_SMALL : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *n, process *to) { return list(handle, n, to, 0); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *n, process *to) { return list(handle, n, to, 1); }
