/* Records all that a process changes on disk under one folder, in order, so that a power cut can be replayed.
 *
 * Preloaded (LD_PRELOAD). POWERCUT_FOLDER is watched; POWERCUT_TRACE, outside of it, gets one record a change. While
 * the file POWERCUT_FAILING exists, every sync of a watched file fails with EIO and syncs nothing.
 *
 * A record is a struct head, then a path (or two, with a zero byte between), then data. Files are known by their inode,
 * and whether a descriptor is watched is asked of /proc each time, so that no dup, close or rename can be missed.
 * SQLite's -shm is left out: it is shared memory, mapped, and made anew from the log after a power cut.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPENED = 1, WRITTEN, CUT, SYNCED, SYNC_FAILED, RENAMED, LINKED, UNLINKED, FOLDER_SYNCED };

struct head {
    uint32_t magic, kind;
    uint64_t inode, offset;
    uint32_t path_bytes, data_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static char folder[PATH_MAX];
static size_t folder_length;

#define REAL(result, name, ...)                                    \
    static result (*real_##name)(__VA_ARGS__);                     \
    if (!real_##name) real_##name = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void fail(const char *what) {
    fprintf(stderr, "powercut recorder: %s: %s\n", what, strerror(errno));
    abort(); /* A trace with a hole proves nothing. */
}

__attribute__((constructor)) static void begin(void) {
    REAL(int, open64, const char *, int, ...);
    const char *watched = getenv("POWERCUT_FOLDER"), *path = getenv("POWERCUT_TRACE");
    if (!watched || !path) return;
    if (!realpath(watched, folder)) fail(watched);
    folder_length = strlen(folder);
    trace = real_open64(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace < 0) fail(path);
}

static int under_folder(const char *path) {
    size_t length = strlen(path);
    if (trace < 0 || strncmp(path, folder, folder_length)) return 0;
    if (path[folder_length] != '/' && path[folder_length]) return 0;
    return length < 4 || strcmp(path + length - 4, "-shm");
}

/* Say whether what is open at fd is watched, and what it is. */
static int watched(int fd, char *path, struct stat *status) {
    int before = errno;
    char link[64];
    int is = 0;
    if (trace >= 0 && fstat(fd, status) == 0 && (S_ISREG(status->st_mode) || S_ISDIR(status->st_mode))) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, PATH_MAX - 1);
        if (length > 0) {
            path[length] = 0;
            is = under_folder(path);
        }
    }
    errno = before;
    return is;
}

static void record(uint32_t kind, uint64_t inode, uint64_t offset, const char *path, size_t path_bytes,
                   const void *data, size_t data_bytes) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    int before = errno;
    struct head head = {0x54435750, kind, inode, offset, (uint32_t)path_bytes, (uint32_t)data_bytes};
    struct iovec pieces[3] = {{&head, sizeof head}, {(void *)path, path_bytes}, {(void *)data, data_bytes}};
    if (real_writev(trace, pieces, 3) != (ssize_t)(sizeof head + path_bytes + data_bytes)) fail("trace");
    errno = before;
}

static int opened(int fd, int flags) {
    char path[PATH_MAX];
    struct stat status;
    if (fd >= 0 && (flags & (O_ACCMODE | O_CREAT)) && watched(fd, path, &status)) {
        record(OPENED, status.st_ino, 0, path, strlen(path), NULL, 0);
        if (flags & O_TRUNC) record(CUT, status.st_ino, 0, NULL, 0, NULL, 0);
    }
    return fd;
}

#define OPEN(name)                                                 \
    int name(const char *path, int flags, ...) {                   \
        REAL(int, name, const char *, int, ...);                   \
        va_list rest;                                              \
        va_start(rest, flags);                                     \
        mode_t mode = va_arg(rest, mode_t);                        \
        va_end(rest);                                              \
        pthread_mutex_lock(&lock);                                 \
        int fd = opened(real_##name(path, flags, mode), flags);    \
        pthread_mutex_unlock(&lock);                               \
        return fd;                                                 \
    }

OPEN(open)
OPEN(open64)

#define OPENAT(name)                                               \
    int name(int at, const char *path, int flags, ...) {           \
        REAL(int, name, int, const char *, int, ...);              \
        va_list rest;                                              \
        va_start(rest, flags);                                     \
        mode_t mode = va_arg(rest, mode_t);                        \
        va_end(rest);                                              \
        pthread_mutex_lock(&lock);                                 \
        int fd = opened(real_##name(at, path, flags, mode), flags);\
        pthread_mutex_unlock(&lock);                               \
        return fd;                                                 \
    }

OPENAT(openat)
OPENAT(openat64)

static void written(int fd, uint64_t inode, const struct iovec *pieces, off64_t at, ssize_t bytes) {
    off64_t offset = at >= 0 ? at : lseek64(fd, 0, SEEK_CUR) - bytes;
    for (; bytes > 0; pieces++) {
        size_t here = pieces->iov_len < (size_t)bytes ? pieces->iov_len : (size_t)bytes;
        record(WRITTEN, inode, (uint64_t)offset, NULL, 0, pieces->iov_base, here);
        offset += (off64_t)here;
        bytes -= (ssize_t)here;
    }
}

#define WRITE(signature, call, pieces, at)                         \
    {                                                              \
        char path[PATH_MAX];                                       \
        struct stat status;                                        \
        if (!watched(fd, path, &status)) return call;              \
        pthread_mutex_lock(&lock);                                 \
        ssize_t bytes = call;                                      \
        written(fd, status.st_ino, pieces, at, bytes);             \
        pthread_mutex_unlock(&lock);                               \
        return bytes;                                              \
    }

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    struct iovec piece = {(void *)data, size};
    WRITE(write, real_write(fd, data, size), &piece, -1)
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    WRITE(writev, real_writev(fd, pieces, count), pieces, -1)
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    struct iovec piece = {(void *)data, size};
    WRITE(pwrite, real_pwrite(fd, data, size, at), &piece, at)
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    struct iovec piece = {(void *)data, size};
    WRITE(pwrite64, real_pwrite64(fd, data, size, at), &piece, at)
}

/* What changes a descriptor, done and then recorded, as one. */
#define DONE_TO(fd, call, kind, offset)                            \
    {                                                              \
        char path[PATH_MAX];                                       \
        struct stat status;                                        \
        if (!watched(fd, path, &status)) return call;              \
        pthread_mutex_lock(&lock);                                 \
        int result = call;                                         \
        if (result == 0) record(kind, status.st_ino, (uint64_t)(offset), NULL, 0, NULL, 0); \
        pthread_mutex_unlock(&lock);                               \
        return result;                                             \
    }

int ftruncate(int fd, off_t length) {
    REAL(int, ftruncate, int, off_t);
    DONE_TO(fd, real_ftruncate(fd, length), CUT, length)
}

int ftruncate64(int fd, off64_t length) {
    REAL(int, ftruncate64, int, off64_t);
    DONE_TO(fd, real_ftruncate64(fd, length), CUT, length)
}

/* Growing a file without writing is a cut to a greater length. Nothing of ours allocates otherwise. */
int posix_fallocate64(int fd, off64_t from, off64_t length) {
    REAL(int, posix_fallocate64, int, off64_t, off64_t);
    struct stat64 now;
    uint64_t end = (uint64_t)(from + length);
    if (fstat64(fd, &now) == 0 && (uint64_t)now.st_size > end) end = (uint64_t)now.st_size;
    DONE_TO(fd, real_posix_fallocate64(fd, from, length), CUT, end)
}

static int synced(int fd, int (*really)(int)) {
    char path[PATH_MAX];
    struct stat status;
    const char *failing = getenv("POWERCUT_FAILING");
    if (!watched(fd, path, &status)) return really(fd);
    pthread_mutex_lock(&lock);
    int result = failing && access(failing, F_OK) == 0 ? -1 : really(fd);
    if (S_ISDIR(status.st_mode)) {
        if (result == 0) record(FOLDER_SYNCED, status.st_ino, 0, path, strlen(path), NULL, 0);
    } else {
        record(result ? SYNC_FAILED : SYNCED, status.st_ino, 0, NULL, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    if (result) errno = EIO;
    return result;
}

int fsync(int fd) {
    REAL(int, fsync, int);
    return synced(fd, real_fsync);
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return synced(fd, real_fdatasync);
}

/* Make a path of a caller absolute; its folder is one of ours, so it needs no further resolving. */
static const char *absolute(const char *path, char *buffer) {
    if (path[0] == '/') return path;
    if (!getcwd(buffer, PATH_MAX / 2)) fail("getcwd");
    strcat(buffer, "/");
    return strncat(buffer, path, PATH_MAX / 2 - 2);
}

static int moved(uint32_t kind, const char *from, const char *to, int (*really)(const char *, const char *)) {
    char a[PATH_MAX], b[PATH_MAX], both[2 * PATH_MAX];
    pthread_mutex_lock(&lock);
    from = absolute(from, a);
    to = absolute(to, b);
    int result = really(from, to);
    if (result == 0 && (under_folder(from) || under_folder(to))) {
        int length = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
        record(kind, 0, 0, both, (size_t)length, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return moved(RENAMED, from, to, real_rename);
}

int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    return moved(LINKED, from, to, real_link);
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    char buffer[PATH_MAX];
    pthread_mutex_lock(&lock);
    path = absolute(path, buffer);
    int result = real_unlink(path);
    if (result == 0 && under_folder(path)) record(UNLINKED, 0, 0, path, strlen(path), NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
