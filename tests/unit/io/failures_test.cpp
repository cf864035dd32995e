// Reading a model while the system fails: each allocation, opening and reading in turn.

#include "files.hpp"

#include <fstream>

#include <multistate/io/model_file.hpp>
#include <support/allocations.hpp>

#if defined(__linux__)
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

using namespace multistate;
using namespace io_test;

/// A folder of a config and two shards with an index, and a llama2.c checkpoint; all loaded one after the other.
class models {
 public:
  models() {
    const auto w = random_model(1, true);
    const std::size_t h = 16, q = 16, kv = 8, f = 24;
    std::vector<named_tensor> all = {{"model.embed_tokens.weight", {40, h}, std::span(w.embedding)},
                                     {"model.norm.weight", {h}, std::span(w.final_norm)}};
    for (std::size_t i = 0; i < w.layers.size(); ++i) {
      const auto& l = w.layers[i];
      const std::string at = "model.layers." + std::to_string(i) + ".";
      all.push_back({at + "input_layernorm.weight", {h}, std::span(l.attention_norm)});
      all.push_back({at + "self_attn.q_proj.weight", {q, h}, std::span(l.q)});
      all.push_back({at + "self_attn.k_proj.weight", {kv, h}, std::span(l.k)});
      all.push_back({at + "self_attn.v_proj.weight", {kv, h}, std::span(l.v)});
      all.push_back({at + "self_attn.o_proj.weight", {h, q}, std::span(l.o)});
      all.push_back({at + "post_attention_layernorm.weight", {h}, std::span(l.ffn_norm)});
      all.push_back({at + "mlp.gate_proj.weight", {f, h}, std::span(l.gate)});
      all.push_back({at + "mlp.up_proj.weight", {f, h}, std::span(l.up)});
      all.push_back({at + "mlp.down_proj.weight", {h, f}, std::span(l.down)});
    }
    std::string map;
    for (const auto& t : all)
      map += (map.empty() ? "\"" : ",\"") + t.name + "\":\"" + (&t < &all[9] ? "a" : "b") + ".safetensors\"";
    const std::span<const named_tensor> tensors = all;
    EXPECT_TRUE(write_safetensors(folder_ / "a.safetensors", tensors.first(9)));
    EXPECT_TRUE(write_safetensors(folder_ / "b.safetensors", tensors.subspan(9)));
    folder_.write("model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
    folder_.write("config.json", R"({"model_type":"llama","hidden_size":16,"num_hidden_layers":3,"vocab_size":40,)"
                                 R"("num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":24,)"
                                 R"("tie_word_embeddings":true,"bos_token_id":1,"nobody_knows":0})");
    folder_.write("generation_config.json", R"({"bos_token_id":2})");
    std::string bytes;
    put(bytes, std::vector<int>{4, 2, 1, 2, 1, 8, 4});
    bytes.resize(28 + 4 * (32 + 4 + 16 + 8 + 8 + 16 + 4 + 24 + 4 + 8), '\1');
    folder_.write("m.bin", bytes);
  }
  /// Whether both loaded; what did not has an error in one line.
  bool load() const {
    bool all = true;
    for (const fs::path& path : paths_) {
      const auto w = load_model(path);
      all = all && w;
      if (w) continue;
      EXPECT_FALSE(w.reason().message().empty());
      EXPECT_EQ(w.reason().message().find('\n'), std::string_view::npos);
    }
    return all;
  }

 private:
  scratch folder_;
  std::vector<fs::path> paths_ = {folder_.path(), folder_ / "m.bin"};
};

TEST(io_failures, every_allocation) {
  const models m;
  ASSERT_TRUE(m.load());
  std::size_t n = 1;
  for (;; ++n) {
    support::fail_allocation(n);
    m.load();
    if (support::fail_allocation(0) > 0) break;  // there was no n-th
  }
  EXPECT_GT(n, 100u);
  EXPECT_TRUE(m.load());
}

#if defined(__linux__)

int fail_open = 0, fail_read = 0;  // the n-th call from now on fails; 0: none
bool fail_map = false;

bool fails(int& left) { return left > 0 && --left == 0; }

TEST(io_failures, every_opening_and_reading) {
  const models m;
  int opened = 0, read = 0;
  for (int n = 1;; ++n, ++opened) {
    fail_open = n;
    const bool loaded = m.load();
    if (std::exchange(fail_open, 0) > 0) break;
    // The fifth is generation_config.json, which is compared where it can be read.
    EXPECT_EQ(loaded, n == 5) << n;
  }
  fail_map = true;
  EXPECT_TRUE(m.load()) << "what cannot be mapped is read";
  for (int n = 1;; ++n, ++read) {
    fail_read = n;
    const bool loaded = m.load();
    if (std::exchange(fail_read, 0) > 0) break;
    EXPECT_EQ(loaded, n == 5) << n;
  }
  fail_map = false;
  EXPECT_EQ(opened, 7) << "config, index, two shards, generation_config; m.bin twice";
  EXPECT_EQ(read, opened);
}

#endif

}  // namespace

#if defined(__linux__)

// In the place of the C library's, for this whole program.
extern "C" {
std::FILE* fopen(const char* path, const char* mode) {
  static const auto next = reinterpret_cast<decltype(&std::fopen)>(dlsym(RTLD_NEXT, "fopen"));
  if (!fails(fail_open)) return next(path, mode);
  errno = EMFILE;
  return nullptr;
}
std::size_t fread(void* to, std::size_t size, std::size_t count, std::FILE* file) {
  static const auto next = reinterpret_cast<decltype(&std::fread)>(dlsym(RTLD_NEXT, "fread"));
  return next(to, size, fails(fail_read) ? count / 2 : count, file);
}
void* mmap(void* at, std::size_t size, int rights, int flags, int file, off_t offset) noexcept {
  if (fail_map && file >= 0) {
    errno = ENODEV;
    return MAP_FAILED;
  }
  return reinterpret_cast<void*>(::syscall(SYS_mmap, at, size, rights, flags, file, offset));
}
}

#endif
