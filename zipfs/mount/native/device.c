/* Frees the interpreter while the kernel copies much, takes what is written without a copy, and adds to INIT.

   pyfuse3 holds the interpreter while a request is read and while an answer is written, so that no thread that decodes
   could take its next step while a MiB is copied; and it copies what is written into fresh memory, which takes longer than
   writing it.  libfuse (3.13 and later) lets a session read and write by functions of somebody's own.  It is given
   those below when pyfuse3 asks for the descriptor of its session, which it does once, after mounting: the dynamic linker
   binds that call to the one here, if this module is loaded for all to see before pyfuse3 is.  It binds nothing if it
   is not, and all works as without it.

   A large write reaches pyfuse3 as one of no bytes, which the kernel never sends; its handler asks for the bytes. */
#include "device.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Less is copied sooner than the interpreter is had again. */
#define LARGE_NBYTES (64u << 10)
#define HEADERS_NBYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define PAGE_NBYTES 4096u
/* A reply is a header and what belongs to it; INIT's is two parts. */
#define PARTS_AT_MOST 8

device_state device;

struct fuse_session;

/* As in <fuse_lowlevel.h>. */
typedef struct {
    ssize_t (*writev)(int fd, struct iovec *parts, int count, void *userdata);
    ssize_t (*read)(int fd, void *buffer, size_t nbytes, void *userdata);
    ssize_t (*splice_receive)(int, off_t *, int, off_t *, size_t, unsigned, void *);
    ssize_t (*splice_send)(int, off_t *, int, off_t *, size_t, unsigned, void *);
} custom_io;
typedef int set_io(struct fuse_session *, const custom_io *, int fd);
typedef int set_sized_io(struct fuse_session *, const custom_io *, size_t io_nbytes, int fd);
typedef int get_fd(struct fuse_session *);

/* Requests */

/* See that there is room for the data of a write of which all takes at most so many bytes. */
static bool have_spare(size_t nbytes) {
    if (device.spare.obj != NULL)
        return (size_t)device.spare.len >= nbytes + PAGE_NBYTES;
    PyObject *made = PyObject_CallFunction(device.take_buffer, "n", (Py_ssize_t)(nbytes + PAGE_NBYTES));
    const int failed = made == NULL ? -1 : PyObject_GetBuffer(made, &device.spare, PyBUF_WRITABLE);
    Py_XDECREF(made);
    if (failed) {
        device.spare.obj = NULL;
        PyErr_Clear(); /* libfuse has memory of its own */
        return false;
    }
    return (size_t)device.spare.len >= nbytes + PAGE_NBYTES;
}

/* The first byte of a page in the spare buffer, which is a page larger than needed: whole pages are copied faster. */
static char *spare_page(void) {
    const uintptr_t start = (uintptr_t)device.spare.buf;
    return (char *)((start + PAGE_NBYTES - 1) / PAGE_NBYTES * PAGE_NBYTES);
}

static bool is_large_write(const struct fuse_in_header *header, const struct fuse_write_in *write, size_t nbytes) {
    return header->opcode == FUSE_WRITE && header->len == nbytes && write->size >= LARGE_NBYTES &&
           write->size == nbytes - HEADERS_NBYTES;
}

/* Keep the data of a write, which are in the spare buffer; whoever takes them has that for good. */
static bool keep_data(const struct fuse_write_in *write) {
    const Py_ssize_t start = spare_page() - (char *)device.spare.buf;
    PyObject *whole = PyMemoryView_FromObject(device.spare.obj);
    device.data = whole == NULL ? NULL : PySequence_GetSlice(whole, start, start + (Py_ssize_t)write->size);
    Py_XDECREF(whole);
    if (device.data == NULL) {
        PyErr_Clear();
        return false;
    }
    PyBuffer_Release(&device.spare);
    device.fh = write->fh;
    device.offset = write->offset;
    return true;
}

static void note_init(const struct fuse_in_header *header, const struct fuse_init_in *init, size_t nbytes) {
    if (header->opcode != FUSE_INIT || nbytes < sizeof *header + offsetof(struct fuse_init_in, flags2))
        return;
    device.init = header->unique;
    device.offered = init->flags;
    if (init->flags & FUSE_INIT_EXT && nbytes >= sizeof *header + offsetof(struct fuse_init_in, unused))
        device.offered |= (uint64_t)init->flags2 << 32;
}

static ssize_t read_request(int fd, void *buffer, size_t nbytes, void *userdata) {
    if (!PyGILState_Check())
        return read(fd, buffer, nbytes);
    Py_CLEAR(device.data); /* nobody has asked for them */
    if (device.take_buffer == NULL || nbytes <= HEADERS_NBYTES || !have_spare(nbytes - HEADERS_NBYTES))
        return read(fd, buffer, nbytes);
    char *page = spare_page();
    struct iovec parts[2] = {{buffer, HEADERS_NBYTES}, {page, nbytes - HEADERS_NBYTES}};
    ssize_t count;
    if (device.expects_data) {
        Py_BEGIN_ALLOW_THREADS
        count = readv(fd, parts, 2);
        Py_END_ALLOW_THREADS
    } else {
        count = readv(fd, parts, 2);
    }
    const int error = errno;
    struct fuse_in_header *header = buffer;
    struct fuse_write_in *write = (struct fuse_write_in *)(header + 1);
    device.expects_data = false;
    if (count > (ssize_t)HEADERS_NBYTES && (size_t)count <= nbytes) {
        device.expects_data = is_large_write(header, write, (size_t)count);
        if (device.expects_data && keep_data(write)) {
            write->size = 0;
            header->len = HEADERS_NBYTES;
            return HEADERS_NBYTES;
        }
        memcpy((char *)buffer + HEADERS_NBYTES, page, (size_t)count - HEADERS_NBYTES);
    }
    if (count >= (ssize_t)sizeof *header)
        note_init(header, (struct fuse_init_in *)(header + 1), (size_t)count);
    errno = error;
    return count;
}

/* Answers */

/* Whether this answers INIT.  Threads that notify the kernel come here without the GIL; what they send has no number. */
static bool answers_init(const struct iovec *parts, int count) {
    const struct fuse_out_header *header = parts[0].iov_base;
    return count == 2 && parts[0].iov_len == sizeof *header && header->unique != 0 && header->unique == device.init &&
           header->error == 0 && parts[1].iov_len <= sizeof(struct fuse_init_out) &&
           parts[1].iov_len >= offsetof(struct fuse_init_out, unused);
}

static ssize_t answer_init(int fd, const struct iovec *parts) {
    struct fuse_init_out init;
    memcpy(&init, parts[1].iov_base, parts[1].iov_len);
    const uint64_t known = init.flags & FUSE_INIT_EXT ? UINT64_MAX : UINT32_MAX;
    const uint64_t added = device.wanted & device.offered & known;
    init.flags |= (uint32_t)added;
    init.flags2 |= (uint32_t)(added >> 32);
    const struct iovec changed[2] = {parts[0], {&init, parts[1].iov_len}};
    const ssize_t count = writev(fd, changed, 2);
    if (count >= 0)
        device.agreed = init.flags | (uint64_t)init.flags2 << 32;
    device.init = 0;
    return count;
}

static ssize_t answer(int fd, struct iovec *parts, int count, void *userdata) {
    size_t nbytes = 0;
    for (int part = 0; part < count; part++)
        nbytes += parts[part].iov_len;
    if (count > 0 && answers_init(parts, count))
        return answer_init(fd, parts);
    if (nbytes < LARGE_NBYTES || !PyGILState_Check())
        return writev(fd, parts, count);
    ssize_t written;
    Py_BEGIN_ALLOW_THREADS /* whoever answers keeps what it answers with by a reference */
    written = writev(fd, parts, count);
    Py_END_ALLOW_THREADS
    return written;
}

/* Binding */

static void bind_session(struct fuse_session *session, void *library, int fd) {
    static const custom_io io = {.writev = answer, .read = read_request};
    set_sized_io *sized = (set_sized_io *)dlsym(library, "fuse_session_custom_io_317");
    set_io *plain = (set_io *)dlsym(library, "fuse_session_custom_io");
    if (sized != NULL)
        (void)sized(session, &io, sizeof io, fd);
    else if (plain != NULL)
        (void)plain(session, &io, fd);
}

/* As in <fuse_lowlevel.h>; it is looked up in the libfuse of whoever calls, for there may be another one. */
__attribute__((visibility("default"))) int fuse_session_fd(struct fuse_session *session) {
    Dl_info where;
    if (!dladdr(__builtin_return_address(0), &where) || where.dli_fname == NULL)
        return -1;
    void *library = dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    get_fd *real = library == NULL ? NULL : (get_fd *)dlsym(library, "fuse_session_fd");
    if (real == NULL)
        return -1;
    const int fd = real(session);
    if (fd >= 0 && device.take_buffer != NULL)
        bind_session(session, library, fd);
    dlclose(library); /* the caller keeps it loaded */
    return fd;
}

void device_reset(PyObject *take_buffer, uint64_t wanted) {
    Py_CLEAR(device.data);
    if (device.spare.obj != NULL)
        PyBuffer_Release(&device.spare);
    Py_XDECREF(device.take_buffer);
    device = (device_state){.take_buffer = Py_XNewRef(take_buffer), .wanted = wanted};
}
