/* Loaded before libc (LD_PRELOAD): one call on a file below a given path fails, as a disk's would.
 *
 * What shall fail stands in a file that all processes of a run have mapped (FAIL_CALL_CONTROL);
 * tools/torture/prep_io writes it. The calls of the kinds in question are counted over all of
 * these processes, and the one with the number `at` fails, or every one from there on. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { OPEN = 1, MAKE = 2, READ = 4, WRITE = 8, SYNC = 16, CLOSE = 32, RENAME = 64, REMOVE = 128,
       MKDIR = 256, STAT = 512, LIST = 1024, LOCK = 2048, SPACE = 4096, CUT = 8192, MAP = 16384 };

struct control {
    long long at, count;
    int error, onward, kinds, fired;
    char below[4096], what[4096 + 64];
};

static struct control *control;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAIL_CALL_CONTROL");
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    int descriptor = path ? real_open(path, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0)
        return;
    void *(*real_mmap)(void *, size_t, int, int, int, off64_t) = dlsym(RTLD_NEXT, "mmap64");
    void *memory = real_mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED,
                             descriptor, 0);
    if (memory != MAP_FAILED)
        control = memory;
}

/* Say whether this call is the one, and set errno. */
static int fails(int kind, const char *name, int folder, const char *path)
{
    char full[2 * PATH_MAX] = "";
    int before = errno;
    size_t length;

    if (!control || !control->kinds || !(control->kinds & kind))
        return 0;
    if (!path || (path[0] != '/' && folder != AT_FDCWD)) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t got = readlink(link, full, PATH_MAX);
        errno = before;
        if (got <= 0)
            return 0;
        full[got] = 0;
        if (path && *path)
            snprintf(full + got, PATH_MAX, "/%s", path);
    } else
        snprintf(full, sizeof full, "%s", path);
    length = strlen(control->below);
    if (strncmp(full, control->below, length) || (full[length] != '/' && full[length]))
        return 0;
    long long number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (number != control->at && !(control->onward && number > control->at && control->at))
        return 0;
    if (!__atomic_fetch_add(&control->fired, 1, __ATOMIC_SEQ_CST))
        snprintf(control->what, sizeof control->what, "%s %.4000s", name, full);
    errno = control->error;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A call on a path in a folder, and on an open file. */
#define AT(kind, type, name, failed, folder, path, parameters, arguments) \
    type name parameters \
    { \
        return fails(kind, #name, folder, path) ? failed : REAL(name) arguments; \
    }
#define ON(kind, type, name, failed, descriptor, parameters, arguments) \
    AT(kind, type, name, failed, descriptor, NULL, parameters, arguments)

#define OPENED(name, folder, parameters, ...) \
    int name parameters \
    { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        int kind = (flags & (O_CREAT | O_WRONLY | O_RDWR)) ? MAKE : OPEN; \
        return fails(kind, #name, folder, path) ? -1 : REAL(name)(__VA_ARGS__, flags, mode); \
    }

OPENED(open, AT_FDCWD, (const char *path, int flags, ...), path)
OPENED(open64, AT_FDCWD, (const char *path, int flags, ...), path)
OPENED(openat, folder, (int folder, const char *path, int flags, ...), folder, path)
OPENED(openat64, folder, (int folder, const char *path, int flags, ...), folder, path)
ON(READ, ssize_t, read, -1, f, (int f, void *to, size_t n), (f, to, n))
ON(READ, ssize_t, pread, -1, f, (int f, void *to, size_t n, off_t at), (f, to, n, at))
ON(READ, ssize_t, pread64, -1, f, (int f, void *to, size_t n, off64_t at), (f, to, n, at))
ON(WRITE, ssize_t, write, -1, f, (int f, const void *from, size_t n), (f, from, n))
ON(WRITE, ssize_t, pwrite, -1, f, (int f, const void *from, size_t n, off_t at), (f, from, n, at))
ON(WRITE, ssize_t, pwrite64, -1, f, (int f, const void *from, size_t n, off64_t at),
   (f, from, n, at))
ON(SYNC, int, fsync, -1, f, (int f), (f))
ON(SYNC, int, fdatasync, -1, f, (int f), (f))
ON(CUT, int, ftruncate, -1, f, (int f, off_t n), (f, n))
ON(CUT, int, ftruncate64, -1, f, (int f, off64_t n), (f, n))
ON(LOCK, int, flock, -1, f, (int f, int how), (f, how))
ON(MAP, void *, mmap, MAP_FAILED, f, (void *a, size_t n, int p, int w, int f, off_t at),
   (a, n, p, w, f, at))
ON(MAP, void *, mmap64, MAP_FAILED, f, (void *a, size_t n, int p, int w, int f, off64_t at),
   (a, n, p, w, f, at))
AT(RENAME, int, rename, -1, AT_FDCWD, to, (const char *from, const char *to), (from, to))
AT(RENAME, int, renameat, -1, g, to, (int f, const char *from, int g, const char *to),
   (f, from, g, to))
AT(REMOVE, int, unlink, -1, AT_FDCWD, path, (const char *path), (path))
AT(REMOVE, int, unlinkat, -1, f, path, (int f, const char *path, int flags), (f, path, flags))
AT(REMOVE, int, rmdir, -1, AT_FDCWD, path, (const char *path), (path))
AT(MKDIR, int, mkdir, -1, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
AT(MKDIR, int, mkdirat, -1, f, path, (int f, const char *path, mode_t mode), (f, path, mode))
AT(STAT, int, stat, -1, AT_FDCWD, path, (const char *path, struct stat *to), (path, to))
AT(STAT, int, stat64, -1, AT_FDCWD, path, (const char *path, struct stat64 *to), (path, to))
AT(STAT, int, lstat, -1, AT_FDCWD, path, (const char *path, struct stat *to), (path, to))
AT(STAT, int, lstat64, -1, AT_FDCWD, path, (const char *path, struct stat64 *to), (path, to))
ON(STAT, int, fstat, -1, f, (int f, struct stat *to), (f, to))
ON(STAT, int, fstat64, -1, f, (int f, struct stat64 *to), (f, to))
AT(STAT, int, fstatat, -1, f, path, (int f, const char *path, struct stat *to, int flags),
   (f, path, to, flags))
AT(STAT, int, fstatat64, -1, f, path, (int f, const char *path, struct stat64 *to, int flags),
   (f, path, to, flags))
AT(SPACE, int, statvfs, -1, AT_FDCWD, path, (const char *path, struct statvfs *to), (path, to))
AT(SPACE, int, statvfs64, -1, AT_FDCWD, path, (const char *path, struct statvfs64 *to),
   (path, to))
AT(LIST, DIR *, opendir, NULL, AT_FDCWD, path, (const char *path), (path))
ON(LIST, DIR *, fdopendir, NULL, f, (int f), (f))
ON(LIST, struct dirent *, readdir, NULL, dirfd(folder), (DIR *folder), (folder))
ON(LIST, struct dirent64 *, readdir64, NULL, dirfd(folder), (DIR *folder), (folder))

/* Whatever it says, the file is closed afterwards, as with Linux's own. */
int close(int f)
{
    int failed = fails(CLOSE, "close", f, NULL), error = errno;
    int ended = REAL(close)(f);
    if (!failed)
        return ended;
    errno = error;
    return -1;
}
