// An empty Python module. The operators are registered when the library is
// loaded.
#include <Python.h>

#ifndef MMFASEG_MODULE
#error "MMFASEG_MODULE must be defined; setup.py does so"
#endif
#define MMFASEG_JOIN_(a, b) a##b
#define MMFASEG_JOIN(a, b) MMFASEG_JOIN_(a, b)
#define MMFASEG_STRING_(a) #a
#define MMFASEG_STRING(a) MMFASEG_STRING_(a)

extern "C" PyMODINIT_FUNC MMFASEG_JOIN(PyInit_, MMFASEG_MODULE)() {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                   MMFASEG_STRING(MMFASEG_MODULE),
                                   nullptr,
                                   -1,
                                   nullptr,
                                   nullptr,
                                   nullptr,
                                   nullptr,
                                   nullptr};
  return PyModule_Create(&definition);
}
