/* A PKCS#11 module whose HSM never answers. */
#include <unistd.h>

unsigned long C_GetFunctionList(void **list) {
    (void)list;
    for (;;) pause();
}
