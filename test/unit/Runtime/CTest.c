/* The header is C, the shared object stands by itself, errors are one line. */
#include "skim-rt/skim_rt.h"

#include <stdio.h>
#include <string.h>

static int expect(int holds, const char *what) {
  if (!holds)
    fprintf(stderr, "not so: %s; error: %s\n", what, skim_rt_error());
  return !holds;
}

int main(void) {
  skim_rt_model *model = NULL;
  skim_rt_options options = {.size = sizeof options, .threads = 2, .target = "cpu"};
  int bad = 0;
  bad |= expect(strcmp(skim_rt_error(), "") == 0, "no error before the first failure");
  bad |= expect(skim_rt_open("no/such/package.skim", &options, &model) == SKIM_RT_FAILED, "absent packages fail");
  bad |= expect(model == NULL, "outputs stay untouched");
  bad |= expect(strcmp(skim_rt_error(), "cannot open a package at no/such/package.skim: expected a package folder, got "
                                        "No such file or directory") == 0,
                "the error names what was wrong");
  bad |= expect(skim_rt_open(NULL, NULL, &model) == SKIM_RT_FAILED, "null paths fail");
  bad |= expect(skim_rt_prefill(NULL, NULL, 0, SKIM_RT_LOGITS_LAST, NULL) == SKIM_RT_FAILED, "null sessions fail");
  bad |= expect(skim_rt_session_length(NULL) == -1, "null has no length");
  skim_rt_close(NULL);
  skim_rt_session_close(NULL);
  skim_rt_stream_close(NULL);
  skim_rt_random random = {.seed = 0};
  float first = skim_rt_uniform(&random);
  bad |= expect(random.counter == 1 && first >= 0 && first < 1, "numbers lie in [0, 1)");
  return bad;
}
