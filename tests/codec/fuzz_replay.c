/* Gives inputs of the fuzzer to its target where there is no libFuzzer: fuzz_replay FILE..., or what fuzz_decode.c
   names. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz_input.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most) { return size; }

int main(int argc, char **argv) {
    enum { MOST = 1 << 20 };
    uint8_t *data = malloc(MOST);
    LLVMFuzzerInitialize(&argc, &argv);
    for (int k = 1; k < argc; k++) {
        FILE *file = fopen(argv[k], "rb");
        if (data == NULL || file == NULL)
            return 2;
        LLVMFuzzerTestOneInput(data, fread(data, 1, MOST, file));
        fclose(file);
    }
    free(data);
    return 0;
}
