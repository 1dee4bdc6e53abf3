/* Frees the interpreter while the kernel copies an answer.

   pyfuse3 holds it, so that no thread that decodes could take its next step while a MiB is copied, which is a quarter of
   the time of a sequential read.  The dynamic linker binds pyfuse3's calls of `fuse_reply_buf` to the one below, if this
   module is loaded for all to see before pyfuse3 is; it binds nothing if it is not, and all works as without it. */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <dlfcn.h>
#include <errno.h>

/* Less is copied sooner than the interpreter is had again. */
#define FREED_NBYTES (64u << 10)

typedef struct fuse_req *fuse_req_t;
typedef int reply_function(fuse_req_t, const char *, size_t);

/* The function of that name in the libfuse of whoever calls: there may be another one in the system. */
static reply_function *find_real(void *caller) {
    Dl_info where;
    if (!dladdr(caller, &where) || where.dli_fname == NULL)
        return NULL;
    void *library = dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    return library == NULL ? NULL : (reply_function *)dlsym(library, "fuse_reply_buf");
}

/* As in <fuse_lowlevel.h>.  Whoever calls it while holding the interpreter keeps `buf` alive by a reference. */
__attribute__((visibility("default"))) int fuse_reply_buf(fuse_req_t req, const char *buf, size_t size) {
    static reply_function *real; /* only the thread of the event loop answers */
    if (real == NULL && (real = find_real(__builtin_return_address(0))) == NULL)
        return -ENOSYS;
    if (size < FREED_NBYTES || !PyGILState_Check())
        return real(req, buf, size);
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = real(req, buf, size);
    Py_END_ALLOW_THREADS
    return result;
}

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "zipfs.mount._native",
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
