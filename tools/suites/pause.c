/* Preloaded into fsx, which closes its file and opens it again now and then. In between it would have the caches of the
   whole machine dropped by a shell; here it waits instead, for as long as PAUSE_MS at most. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

int system(const char *command)
{
	static unsigned seed = 1;
	const char *longest = getenv("PAUSE_MS");
	unsigned milliseconds = longest == NULL ? 0 : (unsigned)atoi(longest);

	(void)command;
	if (milliseconds > 0)
		usleep(((unsigned)rand_r(&seed) % milliseconds) * 1000);
	return 0;
}
