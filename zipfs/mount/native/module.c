/* What Python asks of the device. */
#include "device.h"

static PyObject *prepare(PyObject *module, PyObject *args) {
    PyObject *take_buffer;
    unsigned long long wanted;
    if (!PyArg_ParseTuple(args, "OK:prepare", &take_buffer, &wanted))
        return NULL;
    device_reset(take_buffer == Py_None ? NULL : take_buffer, wanted);
    Py_RETURN_NONE;
}

static PyObject *offered(PyObject *module, PyObject *unused) { return PyLong_FromUnsignedLongLong(device.offered); }

static PyObject *agreed(PyObject *module, PyObject *unused) { return PyLong_FromUnsignedLongLong(device.agreed); }

static PyObject *take_data(PyObject *module, PyObject *args) {
    unsigned long long fh, offset;
    if (!PyArg_ParseTuple(args, "KK:take_data", &fh, &offset))
        return NULL;
    if (device.data == NULL || device.fh != fh || device.offset != offset)
        return PyErr_Format(PyExc_LookupError, "no data of handle %llu at %llu", fh, offset);
    PyObject *data = device.data;
    device.data = NULL;
    return data;
}

static PyMethodDef methods[] = {
    {"prepare", prepare, METH_VARARGS,
     "Bind a FUSE session when it is opened. It takes buffers by a function; None: do not."},
    {"offered", offered, METH_NOARGS, "The flags of INIT that the kernel has; 0 if no session was bound."},
    {"agreed", agreed, METH_NOARGS, "The flags of INIT that were agreed upon; 0 if no session was bound."},
    {"take_data", take_data, METH_VARARGS, "What a write of no bytes has written. Once, before the next request."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "zipfs.mount._native", .m_size = 0, .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
