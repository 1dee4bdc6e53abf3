/* Reads many ranges of files with the GIL released once for all of them.  With a call for each, a thread that decodes
   would have to get the GIL back, and wait for it, as often. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

typedef struct {
    int fd;
    off_t offset;
    Py_buffer into;
} range;

/* The pages of a buffer are there before they are written.  An older system gives them then, and so does this one if it
   has no memory left. */
static void make_resident(const Py_buffer *buffer, uintptr_t page) {
    const uintptr_t begin = (uintptr_t)buffer->buf & ~(page - 1);
    if (buffer->len)
        (void)madvise((void *)begin, (uintptr_t)buffer->buf + (size_t)buffer->len - begin, MADV_POPULATE_WRITE);
}

/* How much of the buffer is not filled because the file ends, or, with *error set, cannot be read. */
static Py_ssize_t fill(const range *one, int *error) {
    char *at = one->into.buf;
    Py_ssize_t left = one->into.len;
    while (left) {
        ssize_t got = pread(one->fd, at, (size_t)left, one->offset + (one->into.len - left));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            *error = got < 0 ? errno : 0;
            break;
        }
        at += got;
        left -= got;
    }
    return left;
}

typedef struct {
    Py_ssize_t position; /* of the range that could not be filled */
    Py_ssize_t left;     /* how many of its bytes */
    int error;           /* errno, or 0 where its file ends before */
} failure;

/* Fills all ranges, or those before `position` of the failure; returns whether there was none. */
static int fill_all(const range *ranges, Py_ssize_t count, const Py_buffer *resident, Py_ssize_t resident_count,
                    failure *failed) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    /* The disk works on all of them at once, and a read that is known before is not guessed to go on. */
    for (Py_ssize_t k = 0; (count > 1 || resident_count) && k < count; k++)
        (void)posix_fadvise(ranges[k].fd, ranges[k].offset, ranges[k].into.len, POSIX_FADV_WILLNEED);
    for (Py_ssize_t k = 0; k < resident_count; k++)
        make_resident(&resident[k], page);
    for (Py_ssize_t k = 0; k < count; k++) {
        failed->position = k;
        failed->left = fill(&ranges[k], &failed->error);
        if (failed->left)
            return 0;
    }
    return 1;
}

static int get_range(PyObject *item, range *one) {
    long long offset; /* the system says what is wrong with it, as with the descriptor */
    PyObject *into;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "a range is a tuple of descriptor, offset and buffer");
        return 0;
    }
    if (!PyArg_ParseTuple(item, "iLO", &one->fd, &offset, &into) ||
        PyObject_GetBuffer(into, &one->into, PyBUF_WRITABLE) < 0)
        return 0;
    one->offset = (off_t)offset;
    return 1;
}

static PyObject *read_held(PyObject *list, PyObject *buffers, range *ranges, Py_buffer *resident) {
    const Py_ssize_t count = PyList_GET_SIZE(list), resident_count = PyList_GET_SIZE(buffers);
    for (Py_ssize_t k = 0; k < count; k++)
        if (!get_range(PyList_GET_ITEM(list, k), &ranges[k]))
            return NULL;
    for (Py_ssize_t k = 0; k < resident_count; k++)
        if (PyObject_GetBuffer(PyList_GET_ITEM(buffers, k), &resident[k], PyBUF_WRITABLE) < 0)
            return NULL;
    failure failed = {0, 0, 0};
    int filled;
    Py_BEGIN_ALLOW_THREADS
    filled = fill_all(ranges, count, resident, resident_count, &failed);
    Py_END_ALLOW_THREADS
    return filled ? Py_NewRef(Py_None) : Py_BuildValue("nni", failed.position, failed.left, failed.error);
}

static PyObject *read_ranges(PyObject *self, PyObject *args) {
    PyObject *given, *given_buffers, *result = NULL;
    if (!PyArg_ParseTuple(args, "OO", &given, &given_buffers))
        return NULL;
    /* Copies: asking for a buffer runs the code of its owner, which could change the caller's list. */
    PyObject *list = PySequence_List(given), *buffers = list == NULL ? NULL : PySequence_List(given_buffers);
    if (buffers != NULL) {
        const size_t count = (size_t)PyList_GET_SIZE(list), resident_count = (size_t)PyList_GET_SIZE(buffers);
        range *ranges = PyMem_Calloc(count, sizeof *ranges);
        Py_buffer *resident = PyMem_Calloc(resident_count, sizeof *resident);
        if (ranges == NULL || resident == NULL)
            PyErr_NoMemory();
        else
            result = read_held(list, buffers, ranges, resident);
        for (size_t k = 0; ranges != NULL && k < count; k++)
            PyBuffer_Release(&ranges[k].into);
        for (size_t k = 0; resident != NULL && k < resident_count; k++)
            PyBuffer_Release(&resident[k]);
        PyMem_Free(ranges);
        PyMem_Free(resident);
    }
    Py_XDECREF(buffers);
    Py_XDECREF(list);
    return result;
}

static PyMethodDef methods[] = {
    {"read_ranges", read_ranges, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "zipfs.store._native", .m_size = 0, .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
