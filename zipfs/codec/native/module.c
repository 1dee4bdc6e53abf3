/* The Python side of the native codecs: buffers in, buffers out, the GIL released around the work.  Each call takes
   `isa`, by which tests run one path after the other in one process; None means what the process chose. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "common.h"
#include "dispatch.h"

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

static PyObject *encode(Py_buffer *raw, Py_buffer *base, Py_buffer *out, int layout, const char *isa_name) {
    size_t used = 0;
    int failed = 1;
    int isa = parse_isa(isa_name);
    if (isa < 0 || !parse_layout(layout))
        return NULL;
    if (base != NULL && base->len != raw->len) {
        PyErr_SetString(PyExc_ValueError, "the base must be as long as the raw bytes");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    zf_dispatch_override(isa);
    if (base != NULL)
        failed = zf_delta_encode(raw->buf, base->buf, (size_t)raw->len, layout, out->buf, (size_t)out->len, &used);
    else
        failed = zf_solo_encode(raw->buf, (size_t)raw->len, layout, out->buf, (size_t)out->len, &used);
    zf_dispatch_override(-1);
    Py_END_ALLOW_THREADS
    return failed ? Py_NewRef(Py_None) : PyLong_FromSize_t(used);
}

static PyObject *decode(Py_buffer *payload, Py_buffer *base, Py_buffer *out, const char *isa_name) {
    const char *wrong;
    int isa = parse_isa(isa_name);
    if (isa < 0)
        return NULL;
    if (base != NULL && base->len != out->len) {
        PyErr_SetString(PyExc_ValueError, "the base must be as long as the target");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    zf_dispatch_override(isa);
    if (base != NULL)
        wrong = zf_delta_decode(payload->buf, (size_t)payload->len, base->buf, out->buf, (size_t)out->len);
    else
        wrong = zf_solo_decode(payload->buf, (size_t)payload->len, out->buf, (size_t)out->len);
    zf_dispatch_override(-1);
    Py_END_ALLOW_THREADS
    if (wrong == zf_no_memory)
        return PyErr_NoMemory();
    return wrong == NULL ? Py_NewRef(Py_None) : PyUnicode_FromString(wrong);
}

static PyObject *delta_encode(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"raw", "base", "layout", "out", "isa", NULL};
    Py_buffer raw, base, out;
    int layout;
    const char *isa = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*iw*|z", keywords, &raw, &base, &layout, &out, &isa))
        return NULL;
    PyObject *result = encode(&raw, &base, &out, layout, isa);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&base);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *delta_decode(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"payload", "base", "out", "isa", NULL};
    Py_buffer payload, base, out;
    const char *isa = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*w*|z", keywords, &payload, &base, &out, &isa))
        return NULL;
    PyObject *result = decode(&payload, &base, &out, isa);
    PyBuffer_Release(&payload);
    PyBuffer_Release(&base);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *solo_encode(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"raw", "layout", "out", "isa", NULL};
    Py_buffer raw, out;
    int layout;
    const char *isa = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*iw*|z", keywords, &raw, &layout, &out, &isa))
        return NULL;
    PyObject *result = encode(&raw, NULL, &out, layout, isa);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *solo_decode(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"payload", "out", "isa", NULL};
    Py_buffer payload, out;
    const char *isa = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*w*|z", keywords, &payload, &out, &isa))
        return NULL;
    PyObject *result = decode(&payload, NULL, &out, isa);
    PyBuffer_Release(&payload);
    PyBuffer_Release(&out);
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
    {"delta_encode", (PyCFunction)(void (*)(void))delta_encode, METH_VARARGS | METH_KEYWORDS, NULL},
    {"delta_decode", (PyCFunction)(void (*)(void))delta_decode, METH_VARARGS | METH_KEYWORDS, NULL},
    {"solo_encode", (PyCFunction)(void (*)(void))solo_encode, METH_VARARGS | METH_KEYWORDS, NULL},
    {"solo_decode", (PyCFunction)(void (*)(void))solo_decode, METH_VARARGS | METH_KEYWORDS, NULL},
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
