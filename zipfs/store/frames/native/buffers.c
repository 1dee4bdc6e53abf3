/* Memory that is leased out and used again.  A lease is an object that exports its buffer: each memoryview of it, each
   part of one and each array made from one is an export, which the buffer protocol has taken back exactly once.  At the
   last the memory goes back to the pool.  So nothing here depends on how references are counted, and nobody can end the
   lease of somebody else.

   The GIL guards all of that; no code of Python's runs while anything is changed. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    LEAST_BITS = 16, /* buffers come in powers of two from 64 KiB */
    MOST_BITS = 23,  /* to 8 MiB */
    SIZES = MOST_BITS - LEAST_BITS + 1,
    EXACT = SIZES, /* stands for a size that is not kept */
    HUGE_BITS = 21,
    LEAST_UNLOCKED_NBYTES = 1 << 14, /* less is compared sooner than the GIL is released */
};

/* Free memory, which holds the link itself. */
typedef struct block {
    struct block *next;
} block;

typedef struct {
    PyObject ob_base;
    PyTypeObject *lease_type;
    block *kept[SIZES];
    Py_ssize_t counts[SIZES];
    Py_ssize_t kept_nbytes;
    Py_ssize_t most_nbytes;
} pool;

typedef struct {
    PyObject ob_base;
    pool *of;
    char *memory; /* NULL once the lease has ended */
    Py_ssize_t nbytes;
    Py_ssize_t exports;
    int size;
} lease;

static Py_ssize_t size_nbytes(int size) { return (Py_ssize_t)1 << (LEAST_BITS + size); }

/* The least size that holds so many bytes; EXACT for what is too small or too large to be kept. */
static int size_for(Py_ssize_t nbytes) {
    int size = 0;
    if (nbytes < size_nbytes(0) / 4)
        return EXACT;
    while (size < SIZES && size_nbytes(size) < nbytes)
        size++;
    return size;
}

static Py_ssize_t buffer_nbytes_for(Py_ssize_t nbytes) {
    const int size = size_for(nbytes);
    return size == EXACT ? nbytes : size_nbytes(size);
}

/* Memory of two huge pages and more is aligned to them, so that it takes as many page faults and not 512 times more. */
static char *allocate(Py_ssize_t nbytes) {
    const size_t huge = (size_t)1 << HUGE_BITS, wanted = nbytes ? (size_t)nbytes : 1;
    void *memory;
    if (wanted < 2 * huge)
        return malloc(wanted);
    if (posix_memalign(&memory, huge, wanted))
        return NULL;
    (void)madvise(memory, wanted & ~(huge - 1), MADV_HUGEPAGE);
    return memory;
}

static void drop_one(pool *self, int size) {
    block *dropped = self->kept[size];
    self->kept[size] = dropped->next;
    self->counts[size]--;
    self->kept_nbytes -= size_nbytes(size);
    free(dropped);
}

static int largest_share(const pool *self) {
    int largest = 0;
    for (int size = 1; size < SIZES; size++)
        if (self->counts[size] * size_nbytes(size) >= self->counts[largest] * size_nbytes(largest))
            largest = size;
    return largest;
}

static void keep(pool *self, char *memory, int size) {
    block *kept = (block *)memory;
    kept->next = self->kept[size];
    self->kept[size] = kept;
    self->counts[size]++;
    self->kept_nbytes += size_nbytes(size);
    while (self->kept_nbytes > self->most_nbytes)
        drop_one(self, largest_share(self));
}

/* Leases */

static void end(lease *self) {
    char *memory = self->memory;
    self->memory = NULL;
    if (memory == NULL)
        return;
    if (self->size == EXACT)
        free(memory);
    else
        keep(self->of, memory, self->size);
}

static int lease_get(PyObject *object, Py_buffer *view, int flags) {
    lease *self = (lease *)object;
    if (self->memory == NULL) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "the lease of this buffer has ended");
        return -1;
    }
    if (PyBuffer_FillInfo(view, object, self->memory, self->nbytes, 0, flags) < 0)
        return -1;
    self->exports++;
    return 0;
}

static void lease_release(PyObject *object, Py_buffer *view) {
    lease *self = (lease *)object;
    if (--self->exports == 0)
        end(self);
}

static void lease_dealloc(PyObject *object) {
    lease *self = (lease *)object;
    PyTypeObject *type = Py_TYPE(object);
    end(self); /* one that was never exported */
    Py_DECREF(self->of);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyType_Slot lease_slots[] = {
    {Py_tp_doc, "A buffer of a pool, until the last view of it is released."},
    {Py_tp_dealloc, lease_dealloc},
    {Py_bf_getbuffer, lease_get},
    {Py_bf_releasebuffer, lease_release},
    {0, NULL},
};

static PyType_Spec lease_spec = {
    .name = "zipfs.store.frames._native.Lease",
    .basicsize = sizeof(lease),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = lease_slots,
};

/* Pools */

static PyObject *pool_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"most_nbytes", NULL};
    Py_ssize_t most_nbytes;
    if (!PyArg_ParseTupleAndKeywords(args, named, "n:BufferPool", names, &most_nbytes))
        return NULL;
    if (most_nbytes < 0)
        return PyErr_Format(PyExc_ValueError, "a pool of %zd bytes", most_nbytes);
    PyObject *module = PyType_GetModule(type);
    if (module == NULL)
        return NULL;
    pool *self = (pool *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->most_nbytes = most_nbytes;
    self->lease_type = (PyTypeObject *)Py_NewRef(*(PyObject **)PyModule_GetState(module));
    return (PyObject *)self;
}

static void pool_dealloc(PyObject *object) {
    pool *self = (pool *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (int size = 0; size < SIZES; size++)
        while (self->counts[size])
            drop_one(self, size);
    Py_XDECREF(self->lease_type);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *take(PyObject *object, PyObject *argument) {
    pool *self = (pool *)object;
    const Py_ssize_t nbytes = PyNumber_AsSsize_t(argument, PyExc_OverflowError);
    if (nbytes < 0)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "a buffer of %zd bytes", nbytes);
    lease *made = (lease *)self->lease_type->tp_alloc(self->lease_type, 0);
    if (made == NULL)
        return NULL;
    made->of = (pool *)Py_NewRef(object);
    made->nbytes = nbytes;
    made->size = size_for(nbytes);
    if (made->size != EXACT && self->counts[made->size]) {
        block *found = self->kept[made->size];
        self->kept[made->size] = found->next;
        self->counts[made->size]--;
        self->kept_nbytes -= size_nbytes(made->size);
        made->memory = (char *)found;
    } else {
        made->memory = allocate(buffer_nbytes_for(nbytes));
    }
    PyObject *view = made->memory == NULL ? PyErr_NoMemory() : PyMemoryView_FromObject((PyObject *)made);
    Py_DECREF(made);
    return view;
}

static PyObject *get_kept_nbytes(PyObject *object, void *closure) {
    return PyLong_FromSsize_t(((pool *)object)->kept_nbytes);
}

static PyMethodDef pool_methods[] = {
    {"take", take, METH_O, "A writable view of so many bytes, not cleared."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pool_attributes[] = {
    {"kept_nbytes", get_kept_nbytes, NULL, "Bytes that wait for their next use.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc, "Buffers that are used again; at most `most_nbytes` bytes of them wait for that."},
    {Py_tp_new, pool_new},
    {Py_tp_dealloc, pool_dealloc},
    {Py_tp_methods, pool_methods},
    {Py_tp_getset, pool_attributes},
    {0, NULL},
};

static PyType_Spec pool_spec = {
    .name = "zipfs.store.frames._native.BufferPool",
    .basicsize = sizeof(pool),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pool_slots,
};

/* The module, whose state is the type of a lease. */

static PyObject *buffer_nbytes(PyObject *module, PyObject *argument) {
    const Py_ssize_t nbytes = PyNumber_AsSsize_t(argument, PyExc_OverflowError);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(buffer_nbytes_for(nbytes));
}

static PyObject *same_bytes(PyObject *module, PyObject *args) {
    Py_buffer one, other;
    int same;
    if (!PyArg_ParseTuple(args, "y*y*:same_bytes", &one, &other))
        return NULL;
    if (one.len != other.len) {
        same = 0;
    } else if (one.len < LEAST_UNLOCKED_NBYTES) {
        same = memcmp(one.buf, other.buf, (size_t)one.len) == 0;
    } else {
        Py_BEGIN_ALLOW_THREADS
        same = memcmp(one.buf, other.buf, (size_t)one.len) == 0;
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&one);
    PyBuffer_Release(&other);
    return PyBool_FromLong(same);
}

static int add_types(PyObject *module) {
    PyObject **lease_type = PyModule_GetState(module);
    *lease_type = PyType_FromModuleAndSpec(module, &lease_spec, NULL);
    PyObject *pool_type = *lease_type == NULL ? NULL : PyType_FromModuleAndSpec(module, &pool_spec, NULL);
    const int added = pool_type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)pool_type);
    Py_XDECREF(pool_type);
    return added;
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    PyObject **lease_type = PyModule_GetState(module);
    Py_VISIT(*lease_type);
    return 0;
}

static int clear(PyObject *module) {
    PyObject **lease_type = PyModule_GetState(module);
    Py_CLEAR(*lease_type);
    return 0;
}

static PyMethodDef methods[] = {
    {"buffer_nbytes", buffer_nbytes, METH_O, "What a buffer of so many bytes takes of the memory."},
    {"same_bytes", same_bytes, METH_VARARGS, "Whether two buffers hold the same bytes."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_types}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "zipfs.store.frames._native",
    .m_size = sizeof(PyObject *),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
