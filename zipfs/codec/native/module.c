/* The Python side of the native codecs: buffers in, buffers out, the GIL released around the work.  Each call takes
   `isa`, by which tests run one path after the other in one process; None means what the process chose. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>

#include "cast.h"
#include "common.h"
#include "dispatch.h"
#include "minhash.h"

static int parse_isa(const char *name) {
    if (name == NULL)
        return zf_dispatch_chosen();
    int isa = zf_isa_by_name(name);
    if (isa < 0 || isa > zf_dispatch_best()) {
        PyErr_Format(PyExc_ValueError, "this machine has no instruction set '%s'", name);
        return -1;
    }
    return isa;
}

static int parse_layout(int layout) {
    if (layout > ZF_PLAIN && layout < ZF_LAYOUTS)
        return 1;
    PyErr_Format(PyExc_ValueError, "unknown layout %d", layout);
    return 0;
}

static int parse_block_type(int code) {
    if (code > 0 && code < ZF_BLOCK_TYPES)
        return 1;
    PyErr_Format(PyExc_ValueError, "unknown type of blocks %d", code);
    return 0;
}

/* By the codec with this id; `layout` is a layout, or a type of blocks. */
static PyObject *encode(int codec, Py_buffer *raw, Py_buffer *base, Py_buffer *out, int layout, const char *isa_name) {
    size_t used = 0;
    int failed = 1;
    int isa = parse_isa(isa_name);
    if (isa < 0 || !(codec == ZF_BLOCKS ? parse_block_type(layout) : parse_layout(layout)))
        return NULL;
    if (base != NULL && base->len != raw->len) {
        PyErr_SetString(PyExc_ValueError, "the base must be as long as the raw bytes");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    zf_dispatch_override(isa);
    if (codec == ZF_BLOCKS)
        failed = zf_blocks_encode(raw->buf, (size_t)raw->len, layout, out->buf, (size_t)out->len, &used);
    else if (codec == ZF_BITX)
        failed = zf_bitx_encode(raw->buf, base->buf, (size_t)raw->len, layout, out->buf, (size_t)out->len, &used);
    else
        failed = zf_standalone_encode(raw->buf, (size_t)raw->len, layout, out->buf, (size_t)out->len, &used);
    zf_dispatch_override(-1);
    Py_END_ALLOW_THREADS
    return failed ? Py_NewRef(Py_None) : PyLong_FromSize_t(used);
}

/* What a step of Python's holds on to while it is decoded; base.obj is NULL where there is none. */
typedef struct {
    Py_buffer stored, base, out;
} held_step;

static void release(held_step *held, Py_ssize_t count) {
    for (Py_ssize_t k = 0; k < count; k++) {
        PyBuffer_Release(&held[k].stored);
        PyBuffer_Release(&held[k].base);
        PyBuffer_Release(&held[k].out);
    }
}

static int read_word(PyObject *number, uint64_t *word) {
    *word = PyLong_AsUnsignedLongLong(number);
    return *word != UINT64_MAX || !PyErr_Occurred();
}

/* Reads (codec id, stored bytes, how many of them lie before the payload, base or None, target, seed, checksum).  0 with
   an exception set if it is not that. */
static int read_step(PyObject *item, held_step *held, zf_step *step) {
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 7) {
        PyErr_SetString(PyExc_TypeError, "a step is a tuple of seven");
        return 0;
    }
    uint64_t codec, skipped;
    if (!read_word(PyTuple_GET_ITEM(item, 0), &codec) || !read_word(PyTuple_GET_ITEM(item, 2), &skipped) ||
        !read_word(PyTuple_GET_ITEM(item, 5), &step->seed) || !read_word(PyTuple_GET_ITEM(item, 6), &step->checksum))
        return 0;
    if (codec != ZF_RAW && codec != ZF_STANDALONE && codec != ZF_BITX && codec != ZF_BLOCKS) {
        PyErr_SetString(PyExc_ValueError, "no native codec has this id");
        return 0;
    }
    if (PyObject_GetBuffer(PyTuple_GET_ITEM(item, 1), &held->stored, PyBUF_SIMPLE) < 0 ||
        (codec == ZF_BITX && PyObject_GetBuffer(PyTuple_GET_ITEM(item, 3), &held->base, PyBUF_SIMPLE) < 0) ||
        PyObject_GetBuffer(PyTuple_GET_ITEM(item, 4), &held->out, PyBUF_WRITABLE) < 0)
        return 0;
    if (skipped > (uint64_t)held->stored.len) {
        PyErr_SetString(PyExc_ValueError, "the payload begins behind the end");
        return 0;
    }
    if (codec == ZF_BITX && held->base.len != held->out.len) {
        PyErr_SetString(PyExc_ValueError, "the base must be as long as the target");
        return 0;
    }
    step->codec = (int)codec;
    step->payload = (const uint8_t *)held->stored.buf + skipped;
    step->payload_nbytes = (size_t)held->stored.len - skipped;
    step->base = held->base.buf;
    step->out = held->out.buf;
    step->nbytes = (size_t)held->out.len;
    return 1;
}

static PyObject *run_steps(PyObject *list, int isa, held_step *held, zf_step *steps) {
    Py_ssize_t count = PyList_GET_SIZE(list);
    for (Py_ssize_t k = 0; k < count; k++)
        if (!read_step(PyList_GET_ITEM(list, k), &held[k], &steps[k]))
            return NULL;
    const char *wrong;
    size_t done;
    Py_BEGIN_ALLOW_THREADS
    zf_dispatch_override(isa);
    done = zf_decode_run(steps, (size_t)count, &wrong);
    zf_dispatch_override(-1);
    Py_END_ALLOW_THREADS
    if (wrong == NULL)
        return Py_NewRef(Py_None);
    return wrong == zf_no_memory ? PyErr_NoMemory() : Py_BuildValue("ns", (Py_ssize_t)done, wrong);
}

static PyObject *decode_run(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"steps", "isa", NULL};
    PyObject *given;
    const char *isa_name = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|z", keywords, &given, &isa_name))
        return NULL;
    int isa = parse_isa(isa_name);
    if (isa < 0)
        return NULL;
    /* A copy: asking for a buffer runs the code of its owner, which could change the caller's list. */
    PyObject *list = PySequence_List(given);
    if (list == NULL)
        return NULL;
    size_t count = (size_t)PyList_GET_SIZE(list);
    held_step *held = PyMem_Calloc(count, sizeof *held);
    zf_step *steps = PyMem_Calloc(count, sizeof *steps);
    PyObject *result = held == NULL || steps == NULL ? PyErr_NoMemory() : run_steps(list, isa, held, steps);
    if (held != NULL)
        release(held, (Py_ssize_t)count);
    PyMem_Free(held);
    PyMem_Free(steps);
    Py_DECREF(list);
    return result;
}

static PyObject *bitx_encode(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"raw", "base", "layout", "out", "isa", NULL};
    Py_buffer raw, base, out;
    int layout;
    const char *isa = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*iw*|z", keywords, &raw, &base, &layout, &out, &isa))
        return NULL;
    PyObject *result = encode(ZF_BITX, &raw, &base, &out, layout, isa);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&base);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *encode_alone(int codec, char *keywords[], PyObject *args, PyObject *kwargs) {
    Py_buffer raw, out;
    int layout;
    const char *isa = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*iw*|z", keywords, &raw, &layout, &out, &isa))
        return NULL;
    PyObject *result = encode(codec, &raw, NULL, &out, layout, isa);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *standalone_encode(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"raw", "layout", "out", "isa", NULL};
    return encode_alone(ZF_STANDALONE, keywords, args, kwargs);
}

static PyObject *blocks_encode(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"raw", "block_type", "out", "isa", NULL};
    return encode_alone(ZF_BLOCKS, keywords, args, kwargs);
}

static PyObject *cast(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"items", "layout", "out", "out_layout", "scale", "isa", NULL};
    Py_buffer items, out;
    int from, to;
    float scale = 1;
    const char *isa_name = NULL;
    PyObject *result = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*iw*i|fz", keywords, &items, &from, &out, &to, &scale, &isa_name))
        return NULL;
    int isa = parse_isa(isa_name);
    if (isa >= 0 && parse_layout(from) && parse_layout(to)) {
        size_t item_nbytes = zf_layouts[from].nbytes, count = (size_t)items.len / item_nbytes;
        if (count * item_nbytes != (size_t)items.len || count * zf_layouts[to].nbytes != (size_t)out.len) {
            PyErr_SetString(PyExc_ValueError, "both sides must hold the same number of whole items");
        } else if (!(scale >= FLT_MIN && scale <= FLT_MAX)) {
            PyErr_SetString(PyExc_ValueError, "a scale must be a normal number above 0");
        } else {
            int known;
            Py_BEGIN_ALLOW_THREADS
            zf_dispatch_override(isa);
            known = zf_cast(items.buf, count, from, to, scale, out.buf);
            zf_dispatch_override(-1);
            Py_END_ALLOW_THREADS
            if (known)
                result = Py_NewRef(Py_None);
            else
                PyErr_Format(PyExc_ValueError, "no cast from layout %d to %d", from, to);
        }
    }
    PyBuffer_Release(&items);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *narrow_layout(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"items", "layout", NULL};
    Py_buffer items;
    int layout, narrow = ZF_PLAIN;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*i", keywords, &items, &layout))
        return NULL;
    int known = parse_layout(layout);
    if (known) {
        Py_BEGIN_ALLOW_THREADS
        narrow = zf_narrow_layout(items.buf, (size_t)items.len, layout);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&items);
    return known ? PyLong_FromLong(narrow) : NULL;
}

static PyObject *minhash_samples(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"items", "item_nbytes", "stride", "threshold", "hashes", "places", NULL};
    Py_buffer items, hashes, places;
    int item_nbytes;
    Py_ssize_t stride;
    unsigned long long threshold;
    PyObject *result = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*inKw*w*", keywords, &items, &item_nbytes, &stride, &threshold,
                                     &hashes, &places))
        return NULL;
    if (item_nbytes != 1 && item_nbytes != 2 && item_nbytes != 4 && item_nbytes != 8)
        PyErr_Format(PyExc_ValueError, "no items have %d bytes", item_nbytes);
    else if (stride != 1 && stride != 2 && stride != 4 && stride != 8)
        PyErr_Format(PyExc_ValueError, "stride %zd", stride);
    else if (items.len / item_nbytes > UINT32_MAX)
        PyErr_SetString(PyExc_ValueError, "too many items at once");
    else if ((uintptr_t)hashes.buf % 8 || (uintptr_t)places.buf % 4)
        PyErr_SetString(PyExc_ValueError, "hashes and places must be aligned");
    else {
        size_t capacity = (size_t)hashes.len / 8, kept;
        if (capacity > (size_t)places.len / 4)
            capacity = (size_t)places.len / 4;
        Py_BEGIN_ALLOW_THREADS
        kept = zf_minhash_samples(items.buf, (size_t)(items.len / item_nbytes), item_nbytes, (size_t)stride, threshold,
                                  hashes.buf, places.buf, capacity);
        Py_END_ALLOW_THREADS
        result = PyLong_FromSize_t(kept);
    }
    PyBuffer_Release(&items);
    PyBuffer_Release(&hashes);
    PyBuffer_Release(&places);
    return result;
}

static PyObject *isa(PyObject *self, PyObject *unused) {
    return PyUnicode_FromString(zf_isa_name(zf_dispatch_chosen()));
}

static PyObject *isas(PyObject *self, PyObject *unused) {
    int count = zf_dispatch_best() + 1;
    PyObject *found = PyTuple_New(count);
    for (int k = 0; found != NULL && k < count; k++) {
        PyObject *name = PyUnicode_FromString(zf_isa_name(k));
        if (name == NULL)
            Py_CLEAR(found);
        else
            PyTuple_SET_ITEM(found, k, name);
    }
    return found;
}

static PyMethodDef methods[] = {
    {"bitx_encode", (PyCFunction)(void (*)(void))bitx_encode, METH_VARARGS | METH_KEYWORDS, NULL},
    {"standalone_encode", (PyCFunction)(void (*)(void))standalone_encode, METH_VARARGS | METH_KEYWORDS, NULL},
    {"blocks_encode", (PyCFunction)(void (*)(void))blocks_encode, METH_VARARGS | METH_KEYWORDS, NULL},
    {"decode_run", (PyCFunction)(void (*)(void))decode_run, METH_VARARGS | METH_KEYWORDS, NULL},
    {"cast", (PyCFunction)(void (*)(void))cast, METH_VARARGS | METH_KEYWORDS, NULL},
    {"narrow_layout", (PyCFunction)(void (*)(void))narrow_layout, METH_VARARGS | METH_KEYWORDS, NULL},
    {"minhash_samples", (PyCFunction)(void (*)(void))minhash_samples, METH_VARARGS | METH_KEYWORDS, NULL},
    {"isa", isa, METH_NOARGS, NULL},
    {"isas", isas, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module) {
    const char *wrong = zf_dispatch_init();
    if (wrong == NULL)
        return 0;
    PyErr_SetString(PyExc_ImportError, wrong);
    return -1;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "zipfs.codec._native", .m_size = 0, .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
