/* Faults in file operations, below every library: preloaded, it stands between a program and the C library.

   Counts the operations that change anything below one folder, and at the k-th lets the call fail, ends the process as
   `kill -9` does, or sends Ctrl-C. Operations by descriptor count by the file that the descriptor is of. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, FAIL, FULL, KILL, INTERRUPT };

static char root[PATH_MAX];
static int mode = COUNT, at = -1, error_number = 0, log_handle = -1;
static int seen = 0;

/* Below which folder, from now on; which operation, counted from 0; what then. */
void fault_arm(const char *folder, int k, int what, int number, int log) {
    strncpy(root, folder, PATH_MAX - 1);
    at = k; mode = what; error_number = number; log_handle = log;
    __atomic_store_n(&seen, 0, __ATOMIC_SEQ_CST);
}
int fault_seen(void) { return seen; }

static int below(const char *path) {
    size_t n = strlen(root);
    return n > 0 && strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static void full_path(int folder, const char *path, char *out) {
    char base[PATH_MAX] = "", link[64];
    if (path[0] == '/') { snprintf(out, PATH_MAX, "%s", path); return; }
    if (folder == AT_FDCWD) { if (!getcwd(base, PATH_MAX)) base[0] = 0; }
    else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, base, PATH_MAX - 1);
        base[n > 0 ? n : 0] = 0;
    }
    snprintf(out, PATH_MAX, "%s/%s", base, path);
}

/* 1 if the call must fail, with errno set. takes_room: a full disk refuses it. */
static int struck(const char *what, const char *path, int takes_room) {
    if (!below(path)) return 0;
    int k = __atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST);
    if (log_handle >= 0) dprintf(log_handle, "%s %s\n", what, path);
    if (mode == FULL && at >= 0 && k >= at && takes_room) { errno = error_number; return 1; }
    if (k != at) return 0;
    if (mode == FAIL) { errno = error_number; return 1; }
    if (mode == KILL) { kill(getpid(), SIGKILL); for (;;) pause(); }
    if (mode == INTERRUPT) kill(getpid(), SIGINT);
    return 0;
}
static int struck_handle(const char *what, int handle, int takes_room) {
    char path[PATH_MAX], link[64];
    if (root[0] == 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return struck(what, path, takes_room);
}
static int struck_at(const char *what, int folder, const char *path, int takes_room) {
    char whole[PATH_MAX];
    if (root[0] == 0) return 0;
    full_path(folder, path, whole);
    return struck(what, whole, takes_room);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)
#define CHANGES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define MODE_OF(flags) mode_t m = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list l; va_start(l, flags); m = va_arg(l, mode_t); va_end(l); }

int open(const char *p, int flags, ...) { MODE_OF(flags) REAL(int, "open", const char *, int, ...);
    if (CHANGES(flags) && struck_at("open", AT_FDCWD, p, 1)) return -1; return real(p, flags, m); }
int open64(const char *p, int flags, ...) { MODE_OF(flags) REAL(int, "open64", const char *, int, ...);
    if (CHANGES(flags) && struck_at("open", AT_FDCWD, p, 1)) return -1; return real(p, flags, m); }
int openat(int d, const char *p, int flags, ...) { MODE_OF(flags) REAL(int, "openat", int, const char *, int, ...);
    if (CHANGES(flags) && struck_at("open", d, p, 1)) return -1; return real(d, p, flags, m); }
int openat64(int d, const char *p, int flags, ...) { MODE_OF(flags) REAL(int, "openat64", int, const char *, int, ...);
    if (CHANGES(flags) && struck_at("open", d, p, 1)) return -1; return real(d, p, flags, m); }
ssize_t write(int h, const void *b, size_t n) { REAL(ssize_t, "write", int, const void *, size_t);
    if (struck_handle("write", h, 1)) return -1; return real(h, b, n); }
ssize_t writev(int h, const struct iovec *v, int n) { REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (struck_handle("write", h, 1)) return -1; return real(h, v, n); }
ssize_t pwrite(int h, const void *b, size_t n, off_t o) { REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (struck_handle("write", h, 1)) return -1; return real(h, b, n, o); }
ssize_t pwrite64(int h, const void *b, size_t n, off64_t o) { REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (struck_handle("write", h, 1)) return -1; return real(h, b, n, o); }
int ftruncate(int h, off_t n) { REAL(int, "ftruncate", int, off_t);
    if (struck_handle("truncate", h, 1)) return -1; return real(h, n); }
int ftruncate64(int h, off64_t n) { REAL(int, "ftruncate64", int, off64_t);
    if (struck_handle("truncate", h, 1)) return -1; return real(h, n); }
int fallocate(int h, int m, off_t o, off_t n) { REAL(int, "fallocate", int, int, off_t, off_t);
    if (struck_handle("truncate", h, 1)) return -1; return real(h, m, o, n); }
int fsync(int h) { REAL(int, "fsync", int); if (struck_handle("fsync", h, 1)) return -1; return root[0] ? 0 : real(h); }
int fdatasync(int h) { REAL(int, "fdatasync", int); if (struck_handle("fsync", h, 1)) return -1; return root[0] ? 0 : real(h); }
int rename(const char *a, const char *b) { REAL(int, "rename", const char *, const char *);
    if (struck_at("rename", AT_FDCWD, b, 0)) return -1; return real(a, b); }
int renameat(int c, const char *a, int d, const char *b) { REAL(int, "renameat", int, const char *, int, const char *);
    if (struck_at("rename", d, b, 0)) return -1; return real(c, a, d, b); }
int link(const char *a, const char *b) { REAL(int, "link", const char *, const char *);
    if (struck_at("link", AT_FDCWD, b, 1)) return -1; return real(a, b); }
int linkat(int c, const char *a, int d, const char *b, int f) { REAL(int, "linkat", int, const char *, int, const char *, int);
    if (struck_at("link", d, b, 1)) return -1; return real(c, a, d, b, f); }
int symlink(const char *a, const char *b) { REAL(int, "symlink", const char *, const char *);
    if (struck_at("symlink", AT_FDCWD, b, 1)) return -1; return real(a, b); }
int symlinkat(const char *a, int d, const char *b) { REAL(int, "symlinkat", const char *, int, const char *);
    if (struck_at("symlink", d, b, 1)) return -1; return real(a, d, b); }
int unlink(const char *p) { REAL(int, "unlink", const char *);
    if (struck_at("unlink", AT_FDCWD, p, 0)) return -1; return real(p); }
int unlinkat(int d, const char *p, int f) { REAL(int, "unlinkat", int, const char *, int);
    if (struck_at("unlink", d, p, 0)) return -1; return real(d, p, f); }
int rmdir(const char *p) { REAL(int, "rmdir", const char *);
    if (struck_at("rmdir", AT_FDCWD, p, 0)) return -1; return real(p); }
int mkdir(const char *p, mode_t m) { REAL(int, "mkdir", const char *, mode_t);
    if (struck_at("mkdir", AT_FDCWD, p, 1)) return -1; return real(p, m); }
int mkdirat(int d, const char *p, mode_t m) { REAL(int, "mkdirat", int, const char *, mode_t);
    if (struck_at("mkdir", d, p, 1)) return -1; return real(d, p, m); }
int chmod(const char *p, mode_t m) { REAL(int, "chmod", const char *, mode_t);
    if (struck_at("chmod", AT_FDCWD, p, 0)) return -1; return real(p, m); }
int fchmodat(int d, const char *p, mode_t m, int f) { REAL(int, "fchmodat", int, const char *, mode_t, int);
    if (struck_at("chmod", d, p, 0)) return -1; return real(d, p, m, f); }
