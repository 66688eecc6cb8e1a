/* Makes one read of the rows fail, once: the one whose number is in FAILING_READ. Counts them into the file that
   FAILING_READ_COUNT names. Loaded before the C library into a process that opens a store. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long reads;

static int fails(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, "/rows/") && !strstr(path, "/rows.before/")) return 0;
    const char *wanted = getenv("FAILING_READ");
    long number = atomic_fetch_add(&reads, 1) + 1;
    if (!wanted || atol(wanted) != number) return 0;
    errno = EIO;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t read(int fd, void *to, size_t count) { return fails(fd) ? -1 : REAL(read)(fd, to, count); }

ssize_t pread(int fd, void *to, size_t count, off_t at) { return fails(fd) ? -1 : REAL(pread)(fd, to, count, at); }

ssize_t pread64(int fd, void *to, size_t count, off64_t at) {
    return fails(fd) ? -1 : REAL(pread64)(fd, to, count, at);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags) {
    return fails(from) ? -1 : REAL(copy_file_range)(from, from_at, to, to_at, count, flags);
}

__attribute__((destructor)) static void count(void) {
    const char *path = getenv("FAILING_READ_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld", atomic_load(&reads));
    fclose(file);
}
