/* Preloaded into a process: lets the n-th operation that changes a folder fail, or kills the process ahead of it.

   Python, Arrow and safetensors all write through these functions of the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE = 2, PLACE = 4, REMOVE = 8, FLUSH = 16, OPEN = 32 };
enum { COUNT = 0, ONCE = 1, FROM = 2, KILL = 3 };

static char root[PATH_MAX];
static atomic_long *seen; /* shared with the process that forks this one */
static long nth;
static int kinds, code, way;

/* Count from now on what changes `folder`; the n-th of these `kinds` fails with `code`, and all later ones. */
void fault_arm(const char *folder, int of_kinds, long number, int with_code, int in_way) {
    snprintf(root, sizeof root, "%s", folder);
    atomic_store(seen, 0);
    kinds = of_kinds, nth = number, code = with_code, way = in_way;
}

long fault_seen(void) { return atomic_load(seen); }

__attribute__((constructor)) void fault_share(void) {
    seen = mmap(0, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static int below(int folder, const char *path) {
    char link[64], whole[2 * PATH_MAX] = "";
    if (!root[0]) return 0;
    if (!path || path[0] != '/') {
        ssize_t length;
        if (folder == AT_FDCWD) length = getcwd(whole, PATH_MAX) ? (ssize_t)strlen(whole) : -1;
        else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            length = readlink(link, whole, PATH_MAX - 1);
        }
        if (length < 0) return 0;
        whole[length] = 0;
        if (path) snprintf(whole + length, PATH_MAX, "/%s", path);
    } else snprintf(whole, sizeof whole, "%s", path);
    return !strncmp(whole, root, strlen(root));
}

static int fails(int kind, int is_below) {
    if (!(kinds & kind) || !is_below) return 0;
    long number = atomic_fetch_add(seen, 1) + 1;
    if (way == KILL && number == nth) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (!((way == ONCE && number == nth) || (way == FROM && number >= nth))) return 0;
    errno = code;
    /* Of the first write that finds no room, a half is written. */
    return kind == WRITE && way == FROM && number == nth && code == ENOSPC ? 2 : 1;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define OPENING(name, declared, folder, given)                                                  \
    int name declared {                                                                         \
        REAL(name);                                                                             \
        va_list rest;                                                                           \
        va_start(rest, flags);                                                                  \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                 \
        va_end(rest);                                                                           \
        int changes = flags & (O_WRONLY | O_RDWR | O_CREAT);                                    \
        if (fails(changes ? CREATE : OPEN, below(folder, path))) return -1;                     \
        return real given;                                                                      \
    }
OPENING(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENING(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENING(openat, (int folder, const char *path, int flags, ...), folder, (folder, path, flags, mode))
OPENING(openat64, (int folder, const char *path, int flags, ...), folder, (folder, path, flags, mode))

#define CALL(type, kind, where, name, declared, given)                                          \
    type name declared {                                                                        \
        REAL(name);                                                                             \
        return fails(kind, where) ? (type)-1 : real given;                                      \
    }
#define WRITING(name, declared, given, halved)                                                  \
    ssize_t name declared {                                                                     \
        REAL(name);                                                                             \
        int failed = fails(WRITE, below(fd, 0));                                                \
        if (failed == 2 && size > 1) return real halved;                                        \
        return failed ? -1 : real given;                                                        \
    }
WRITING(write, (int fd, const void *from, size_t size), (fd, from, size), (fd, from, size / 2))
WRITING(pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at), (fd, from, size / 2, at))
WRITING(pwrite64, (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at), (fd, from, size / 2, at))
CALL(ssize_t, WRITE, below(fd, 0), writev, (int fd, const struct iovec *from, int count), (fd, from, count))
CALL(ssize_t, WRITE, below(to, 0), sendfile, (int to, int from, off_t *at, size_t size), (to, from, at, size))
CALL(int, WRITE, below(fd, 0), ftruncate, (int fd, off_t size), (fd, size))
CALL(int, WRITE, below(fd, 0), ftruncate64, (int fd, off64_t size), (fd, size))
CALL(int, FLUSH, below(fd, 0), fsync, (int fd), (fd))
CALL(int, FLUSH, below(fd, 0), fdatasync, (int fd), (fd))
CALL(int, PLACE, below(AT_FDCWD, to), rename, (const char *from, const char *to), (from, to))
CALL(int, PLACE, below(b, to), renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
CALL(int, PLACE, below(AT_FDCWD, to), link, (const char *from, const char *to), (from, to))
CALL(int, PLACE, below(b, to), linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
CALL(int, PLACE, below(AT_FDCWD, path), mkdir, (const char *path, mode_t mode), (path, mode))
CALL(int, PLACE, below(folder, path), mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode))
CALL(int, REMOVE, below(AT_FDCWD, path), unlink, (const char *path), (path))
CALL(int, REMOVE, below(folder, path), unlinkat, (int folder, const char *path, int flags), (folder, path, flags))
CALL(int, REMOVE, below(AT_FDCWD, path), rmdir, (const char *path), (path))
