/* The device by which the kernel asks and is answered: libfuse reads and writes it through functions of ours. */
#ifndef ZIPFS_MOUNT_DEVICE_H
#define ZIPFS_MOUNT_DEVICE_H
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

/* What is known of the one session of this process.  The GIL guards all of it, but for what `answer` says. */
typedef struct {
    PyObject *take_buffer; /* nbytes -> a writable buffer; NULL while no session is to be bound */
    uint64_t wanted;       /* flags of INIT that are asked for where the kernel offers them */
    uint64_t offered;
    uint64_t agreed; /* 0 until INIT was answered */
    uint64_t init;   /* the number of that request, until it was answered */
    Py_buffer spare; /* where the data of the next large write goes; `obj` is NULL if there is none */
    PyObject *data;  /* a view of those of the request that was read last, if it is a large write; or NULL */
    uint64_t fh, offset;
    bool expects_data; /* whether that request was a large write: another one is likely to follow */
} device_state;

extern device_state device;

/* Let go of what is held of a session, and begin with another one. */
void device_reset(PyObject *take_buffer, uint64_t wanted);

#endif
