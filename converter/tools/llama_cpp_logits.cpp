// Logits of llama.cpp for GGUF files, to compare with converter/src/huggingface/golden_tests.rs.
//
//     SMIDGEN_GOLDEN_DIR=/tmp/golden cargo test -p smidgen-converter -- --ignored write_models_for_transformers
//     for d in /tmp/golden/*/; do smidgen export $d --to gguf -o /tmp/golden/$(basename $d).gguf; done
//     g++ -O2 -std=c++17 -fopenmp converter/tools/llama_cpp_logits.cpp -I$L/include -I$L/ggml/include \
//         $B/src/libllama.a $B/ggml/src/libggml.a $B/ggml/src/libggml-cpu.a $B/ggml/src/libggml-base.a -o logits
//     ./logits /tmp/golden/*.gguf
//
// with llama.cpp's sources in $L and its static build (-DBUILD_SHARED_LIBS=OFF) in $B. Token i is
// (7 i + 3) mod 20; the first eight logits behind the twelfth. Keys and values are kept in f32.
#include "llama.h"

#include <cstdio>
#include <cstring>

int main(int argc, char ** argv) {
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
    }, nullptr);
    llama_backend_init();
    for (int arg = 1; arg < argc; arg++) {
        llama_model * model = llama_model_load_from_file(argv[arg], llama_model_default_params());
        if (!model) return fprintf(stderr, "%s was not loaded\n", argv[arg]), 1;
        llama_context_params params = llama_context_default_params();
        params.n_ctx = 16;
        params.type_k = params.type_v = GGML_TYPE_F32;
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        llama_context * context = llama_init_from_model(model, params);
        llama_token tokens[12];
        for (int i = 0; i < 12; i++) tokens[i] = (7 * i + 3) % 20;
        if (!context || llama_decode(context, llama_batch_get_one(tokens, 12)) != 0)
            return fprintf(stderr, "%s was not run\n", argv[arg]), 1;
        const float * logits = llama_get_logits_ith(context, -1);
        const char * name = strrchr(argv[arg], '/');
        printf("%s:", name ? name + 1 : argv[arg]);
        for (int i = 0; i < 8; i++) printf(" %.5f", logits[i]);
        printf("\n");
        llama_free(context);
        llama_model_free(model);
    }
}
