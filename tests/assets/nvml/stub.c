/* A libnvidia-ml.so.1 whose GPUs stand in $NVML_STUB, one for each `;`: `uuid,name,total_mib`.
 * A GPU whose total is `lost` answers "GPU is lost"; NVML_STUB="init N" makes the initialisation return N.
 * Build: gcc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 stub.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, LOST = 15, MAX = 16 };
typedef struct { char uuid[96], name[96], total[16]; } gpu;
typedef struct { unsigned long long total, free, used; } memory;
static gpu gpus[MAX];
static unsigned count;

int nvmlInitWithFlags(unsigned flags) {
  char text[4096], *rest = text, *one;
  const char *stub = getenv("NVML_STUB");
  int code = 0;
  (void)flags;
  count = 0;
  snprintf(text, sizeof text, "%s", stub ? stub : "");
  if (sscanf(text, "init %d", &code) == 1) return code;
  while (count < MAX && (one = strsep(&rest, ";")))
    if (sscanf(one, "%95[^,],%95[^,],%15s", gpus[count].uuid, gpus[count].name, gpus[count].total) == 3) count++;
  return OK;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : code == 9 ? "Driver Not Loaded" : "Error"; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, gpu **handle) {
  if (i >= count) return INVALID;
  *handle = &gpus[i];
  return OK;
}
int nvmlDeviceGetUUID(gpu *g, char *to, unsigned size) { snprintf(to, size, "%s", g->uuid); return OK; }
int nvmlDeviceGetName(gpu *g, char *to, unsigned size) { snprintf(to, size, "%s", g->name); return OK; }
int nvmlDeviceGetMemoryInfo(gpu *g, memory *m) {
  if (!strcmp(g->total, "lost")) return LOST;
  m->total = m->free = strtoull(g->total, 0, 10) << 20;
  m->used = 0;
  return OK;
}
