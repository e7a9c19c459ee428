/* Puts a virtual NPU in front of a program: loaded with LD_PRELOAD, it sends what concerns the device to a server.
 *
 * An open device is a socket connected to the server. So descriptors live, are duplicated, inherited and closed as the
 * operating system does it, and the server sees the last one go. Each call carries its own channel (one end of a new
 * socket pair), so that calls of several threads and processes never mix; on it the server asks for the caller's
 * memory, and answers. Nothing here knows what the calls mean. The other half is server.py.
 *
 * Environment: ROCKETNPU_VIRTUAL_SOCKET is the server's address, _NODE "PATH=MAJOR:MINOR" the device, _ROOT a folder
 * with the files that stand in for those below the paths in _PATHS (semicolons between them).
 */
#define _GNU_SOURCE
#include <dirent.h>
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define CHUNK 32768 /* most bytes of a program's memory in one message; server.py has the same */
#define PASSED 2 /* descriptors that come with a mapping: the memory, and a token to close when it is unmapped */
#define FROM_PROGRAM (1u << 30) /* directions in an ioctl's request code */
#define TO_PROGRAM (1u << 31)

enum { OPEN = 1, IOCTL, MMAP, READ, WRITE, DONE };

struct message {
    uint32_t kind;
    int32_t result; /* DONE: 0 or an errno; IOCTL: unused */
    uint64_t first; /* IOCTL: request; MMAP: length; READ, WRITE: address; DONE: offset to map */
    uint64_t second; /* MMAP: offset; READ, WRITE: bytes */
};

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

/* ---- the channel ---------------------------------------------------------------------------------------------- */

static int fill_address(struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    const char *path = setting("ROCKETNPU_VIRTUAL_SOCKET");
    if (!*path || strlen(path) >= sizeof address->sun_path)
        return -1;
    strcpy(address->sun_path, path);
    return 0;
}

static int is_device(int fd)
{
    struct sockaddr_un own, peer;
    socklen_t size = sizeof peer;
    int before = errno;
    memset(&peer, 0, sizeof peer);
    int same = fd >= 0 && !fill_address(&own) && !getpeername(fd, (struct sockaddr *)&peer, &size) &&
               peer.sun_family == AF_UNIX && !strncmp(peer.sun_path, own.sun_path, sizeof own.sun_path);
    errno = before;
    return same;
}

static int send_message(int channel, const struct message *head, const void *data, size_t size, int passed)
{
    struct iovec parts[2] = {{(void *)head, sizeof *head}, {(void *)data, size}};
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control;
    struct msghdr all = {.msg_iov = parts, .msg_iovlen = size ? 2 : 1};
    if (passed >= 0) {
        memset(&control, 0, sizeof control);
        all.msg_control = &control;
        all.msg_controllen = sizeof control.room;
        struct cmsghdr *item = CMSG_FIRSTHDR(&all);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(item), &passed, sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(channel, &all, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

/* A signal ends our half of the channel: the server gives up a call that waits, with EINTR, and finishes any other.
 * `passed` takes PASSED descriptors, -1 where none came. */
static ssize_t receive_message(int channel, struct message *head, void *data, size_t room, int *passed)
{
    for (;;) {
        struct iovec parts[2] = {{head, sizeof *head}, {data, room}};
        union { struct cmsghdr head; char room[CMSG_SPACE(PASSED * sizeof(int))]; } control;
        struct msghdr all = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = &control,
                             .msg_controllen = sizeof control.room};
        ssize_t size = recvmsg(channel, &all, MSG_CMSG_CLOEXEC);
        if (size < 0 && errno == EINTR) {
            shutdown(channel, SHUT_WR);
            continue;
        }
        if (size < (ssize_t)sizeof *head)
            return -1;
        struct cmsghdr *item = CMSG_FIRSTHDR(&all);
        if (item && item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS)
            memcpy(passed, CMSG_DATA(item), item->cmsg_len - CMSG_LEN(0));
        return size - (ssize_t)sizeof *head;
    }
}

/* Copy within the program; a bad address is EFAULT where the operating system can tell (not under qemu-user). */
static int copy(void *to, const void *from, size_t size)
{
    struct iovec target = {to, size}, source = {(void *)from, size};
    if (!size)
        return 0;
    ssize_t done = process_vm_readv(getpid(), &target, 1, &source, 1, 0);
    if (done == (ssize_t)size)
        return 0;
    if (done >= 0 || errno == EFAULT)
        return EFAULT;
    memcpy(to, from, size);
    return 0;
}

/* One call: its own channel, the server's questions about memory, the answer. Returns 0 or an errno. */
static int call(int device, struct message *head, char *argument, size_t size, int *passed)
{
    char data[CHUNK];
    int ends[2], result = ENODEV;
    passed[0] = passed[1] = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return errno;
    int failed = send_message(device, head, argument, size, ends[1]);
    close(ends[1]);
    while (!failed) {
        ssize_t got = receive_message(ends[0], head, data, sizeof data, passed);
        if (got < 0)
            break;
        char *address = (char *)(uintptr_t)head->first;
        if (head->kind == DONE) {
            result = head->result;
            if (argument && (size_t)got == size)
                memcpy(argument, data, size);
            break;
        }
        struct message reply = {.kind = DONE};
        size_t count = 0;
        if (head->kind == READ && head->second <= sizeof data) {
            reply.result = copy(data, address, head->second);
            count = reply.result ? 0 : head->second;
        } else if (head->kind == WRITE) {
            reply.result = copy(address, data, got);
        } else {
            break;
        }
        failed = send_message(ends[0], &reply, data, count, -1);
    }
    close(ends[0]);
    return result;
}

static int open_device(int flags)
{
    struct sockaddr_un address;
    struct message head = {.kind = OPEN};
    int fd = fill_address(&address) ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | (flags & O_CLOEXEC ? SOCK_CLOEXEC : 0), 0);
    int none[PASSED], result = fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) ? ENODEV : 0;
    if (!result)
        result = call(fd, &head, NULL, 0, none);
    if (result) {
        if (fd >= 0)
            close(fd);
        errno = result;
        return -1;
    }
    return fd;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (!is_device(fd))
        return syscall(SYS_ioctl, fd, request, argument);
    char data[1 << 14];
    int none[PASSED];
    size_t size = request >> 16 & (sizeof data - 1);
    struct message head = {.kind = IOCTL, .first = (uint32_t)request};
    memset(data, 0, size);
    int result = request & FROM_PROGRAM ? copy(data, argument, size) : 0;
    if (!result)
        result = call(fd, &head, data, size, none);
    if (request & TO_PROGRAM && copy(argument, data, size))
        result = EFAULT;
    if (result)
        errno = result;
    return result ? -1 : 0;
}

/* Mappings of the device and their tokens. The server keeps a buffer for as long as any process holds its token, so a
 * process that ends gives it back, and a forked child shares it. Only whole mappings are taken out. */
static struct mapping { void *address; int token; struct mapping *next; } *mappings;
static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;

static void remember(void *address, int token)
{
    struct mapping *mapping = malloc(sizeof *mapping);
    if (!mapping)
        return; /* held until the process ends */
    pthread_mutex_lock(&mappings_lock);
    *mapping = (struct mapping){address, token, mappings};
    mappings = mapping;
    pthread_mutex_unlock(&mappings_lock);
}

EXPORT int munmap(void *address, size_t length)
{
    int result = syscall(SYS_munmap, address, length);
    if (result || !__atomic_load_n(&mappings, __ATOMIC_ACQUIRE))
        return result;
    pthread_mutex_lock(&mappings_lock);
    struct mapping **place = &mappings, *found;
    while (*place && (*place)->address != address)
        place = &(*place)->next;
    found = *place;
    if (found)
        *place = found->next;
    pthread_mutex_unlock(&mappings_lock);
    if (found)
        close(found->token);
    free(found);
    return result;
}

static void *map(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    int passed[PASSED];
    if (fd < 0 || flags & MAP_ANONYMOUS || !is_device(fd))
        return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
    struct message head = {.kind = MMAP, .first = length, .second = offset};
    int result = call(fd, &head, NULL, 0, passed);
    void *found = MAP_FAILED;
    if (!result && passed[1] < 0)
        result = EMFILE; /* what the operating system drops silently when there are too many descriptors */
    if (!result) {
        found = (void *)syscall(SYS_mmap, address, length, protection, flags, passed[0], (off_t)head.first);
        result = errno;
    }
    if (passed[0] >= 0)
        close(passed[0]);
    if (found != MAP_FAILED)
        remember(found, passed[1]);
    else if (passed[1] >= 0)
        close(passed[1]);
    if (found == MAP_FAILED)
        errno = result;
    return found;
}

EXPORT void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    return map(address, length, protection, flags, fd, offset);
}

EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
    return map(address, length, protection, flags, fd, offset);
}

/* ---- files ---------------------------------------------------------------------------------------------------- */

static int is_node(const char *path)
{
    const char *node = setting("ROCKETNPU_VIRTUAL_NODE"), *end = strchr(node, '=');
    return path && end && strlen(path) == (size_t)(end - node) && !strncmp(path, node, end - node);
}

static dev_t node_number(void)
{
    unsigned int major_number = 0, minor_number = 0;
    const char *end = strchr(setting("ROCKETNPU_VIRTUAL_NODE"), '=');
    if (end)
        sscanf(end, "=%u:%u", &major_number, &minor_number);
    return makedev(major_number, minor_number);
}

/* Where a path really is: below the root if it stands in for something, else itself. */
static const char *place(const char *path, char *buffer)
{
    const char *root = setting("ROCKETNPU_VIRTUAL_ROOT");
    if (!path || *path != '/' || !*root)
        return path;
    for (const char *start = setting("ROCKETNPU_VIRTUAL_PATHS"); *start;) {
        size_t size = strcspn(start, ";");
        if (!strncmp(path, start, size) && (!path[size] || path[size] == '/')) {
            if (snprintf(buffer, PATH_MAX, "%s%s", root, path) < PATH_MAX)
                return buffer;
        }
        start += size + (start[size] == ';');
    }
    return path;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int open_path(int directory, const char *path, int flags, mode_t mode)
{
    char buffer[PATH_MAX];
    if (is_node(path))
        return open_device(flags);
    return syscall(SYS_openat, directory, place(path, buffer), flags, mode);
}

#define MODE_OF(flags, last)                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {                                                     \
        va_list list;                                                                                                  \
        va_start(list, last);                                                                                          \
        mode = va_arg(list, unsigned int);                                                                             \
        va_end(list);                                                                                                  \
    }
#define DEFINE_OPEN(name)                                                                                              \
    EXPORT int name(const char *path, int flags, ...)                                                                  \
    {                                                                                                                  \
        MODE_OF(flags, flags)                                                                                          \
        return open_path(AT_FDCWD, path, flags, mode);                                                                 \
    }
#define DEFINE_OPENAT(name)                                                                                            \
    EXPORT int name(int directory, const char *path, int flags, ...)                                                   \
    {                                                                                                                  \
        MODE_OF(flags, flags)                                                                                          \
        return open_path(directory, path, flags, mode);                                                                \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

EXPORT int __open_2(const char *path, int flags) { return open_path(AT_FDCWD, path, flags, 0); }
EXPORT int __open64_2(const char *path, int flags) { return open_path(AT_FDCWD, path, flags, 0); }
EXPORT int __openat_2(int directory, const char *path, int flags) { return open_path(directory, path, flags, 0); }
EXPORT int __openat64_2(int directory, const char *path, int flags) { return open_path(directory, path, flags, 0); }

#define DEFINE_FOPEN(name)                                                                                             \
    EXPORT FILE *name(const char *path, const char *mode)                                                              \
    {                                                                                                                  \
        char buffer[PATH_MAX];                                                                                         \
        return NEXT(name)(place(path, buffer), mode);                                                                  \
    }
DEFINE_FOPEN(fopen)
DEFINE_FOPEN(fopen64)

EXPORT DIR *opendir(const char *path)
{
    char buffer[PATH_MAX];
    return NEXT(opendir)(place(path, buffer));
}

EXPORT int access(const char *path, int mode)
{
    char buffer[PATH_MAX];
    return NEXT(access)(place(path, buffer), is_node(path) ? F_OK : mode);
}

EXPORT int faccessat(int directory, const char *path, int mode, int flags)
{
    char buffer[PATH_MAX];
    return NEXT(faccessat)(directory, place(path, buffer), is_node(path) ? F_OK : mode, flags);
}

EXPORT ssize_t readlink(const char *path, char *target, size_t size)
{
    char buffer[PATH_MAX];
    return NEXT(readlink)(place(path, buffer), target, size);
}

EXPORT ssize_t readlinkat(int directory, const char *path, char *target, size_t size)
{
    char buffer[PATH_MAX];
    return NEXT(readlinkat)(directory, place(path, buffer), target, size);
}

EXPORT char *realpath(const char *path, char *resolved)
{
    char buffer[PATH_MAX];
    const char *root = setting("ROCKETNPU_VIRTUAL_ROOT");
    char *found = NEXT(realpath)(place(path, buffer), resolved);
    if (found && *root && !strncmp(found, root, strlen(root)) && found[strlen(root)] == '/')
        memmove(found, found + strlen(root), strlen(found + strlen(root)) + 1);
    return found;
}

/* `struct stat` is the same as `struct stat64`, and as the kernel's, on the 64-bit machines this is for. */
static int stat_at(int directory, const char *path, struct stat *status, int flags)
{
    char buffer[PATH_MAX];
    int device = path && *path ? is_node(path) : is_device(directory);
    int result = syscall(SYS_newfstatat, directory, place(path, buffer), status, flags);
    if (!result && device) {
        status->st_mode = S_IFCHR | 0666;
        status->st_rdev = node_number();
    }
    return result;
}

#define DEFINE_STAT(suffix)                                                                                            \
    EXPORT int stat##suffix(const char *path, struct stat##suffix *status)                                             \
    {                                                                                                                  \
        return stat_at(AT_FDCWD, path, (struct stat *)status, 0);                                                      \
    }                                                                                                                  \
    EXPORT int lstat##suffix(const char *path, struct stat##suffix *status)                                            \
    {                                                                                                                  \
        return stat_at(AT_FDCWD, path, (struct stat *)status, AT_SYMLINK_NOFOLLOW);                                    \
    }                                                                                                                  \
    EXPORT int fstat##suffix(int fd, struct stat##suffix *status)                                                      \
    {                                                                                                                  \
        return stat_at(fd, "", (struct stat *)status, AT_EMPTY_PATH);                                                  \
    }                                                                                                                  \
    EXPORT int fstatat##suffix(int directory, const char *path, struct stat##suffix *status, int flags)                \
    {                                                                                                                  \
        return stat_at(directory, path, (struct stat *)status, flags);                                                 \
    }                                                                                                                  \
    /* Programs built for C libraries before 2.33. */                                                                  \
    EXPORT int __xstat##suffix(int version, const char *path, struct stat##suffix *status)                             \
    {                                                                                                                  \
        (void)version;                                                                                                 \
        return stat_at(AT_FDCWD, path, (struct stat *)status, 0);                                                      \
    }                                                                                                                  \
    EXPORT int __lxstat##suffix(int version, const char *path, struct stat##suffix *status)                            \
    {                                                                                                                  \
        (void)version;                                                                                                 \
        return stat_at(AT_FDCWD, path, (struct stat *)status, AT_SYMLINK_NOFOLLOW);                                    \
    }                                                                                                                  \
    EXPORT int __fxstat##suffix(int version, int fd, struct stat##suffix *status)                                      \
    {                                                                                                                  \
        (void)version;                                                                                                 \
        return stat_at(fd, "", (struct stat *)status, AT_EMPTY_PATH);                                                  \
    }
DEFINE_STAT()
DEFINE_STAT(64)

EXPORT int statx(int directory, const char *path, int flags, unsigned int mask, struct statx *status)
{
    char buffer[PATH_MAX];
    int device = *path ? is_node(path) : is_device(directory);
    int result = syscall(SYS_statx, directory, place(path, buffer), flags, mask, status);
    if (!result && device) {
        status->stx_mode = S_IFCHR | 0666;
        status->stx_rdev_major = major(node_number());
        status->stx_rdev_minor = minor(node_number());
    }
    return result;
}
