#include "files.hpp"

#include <bit>

#include <multistate/io/huggingface.hpp>

namespace {

using namespace multistate;
using namespace io_test;
using json = nlohmann::json;

json config_of(const model_config& c) {
  return {{"model_type", "llama"},
          {"vocab_size", c.vocab},
          {"hidden_size", c.hidden},
          {"num_hidden_layers", c.layers},
          {"num_attention_heads", c.heads},
          {"num_key_value_heads", c.kv_heads},
          {"intermediate_size", c.ffn},
          {"max_position_embeddings", c.context},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", c.tied},
          {"bos_token_id", 1}};
}

std::vector<named_tensor> tensors_of(const model_weights& w) {
  const auto n = [](int x) { return static_cast<std::size_t>(x); };
  const auto& c = w.config;
  const std::size_t h = n(c.hidden), q = n(c.heads * c.head_dim), kv = n(c.kv_heads * c.head_dim), f = n(c.ffn);
  std::vector<named_tensor> t = {{"model.embed_tokens.weight", {n(c.vocab), h}, std::span(w.embedding)},
                                 {"model.norm.weight", {h}, std::span(w.final_norm)}};
  if (!w.head.empty()) t.push_back({"lm_head.weight", {n(c.vocab), h}, std::span(w.head)});
  for (std::size_t i = 0; i < w.layers.size(); ++i) {
    const auto& l = w.layers[i];
    const std::string at = "model.layers." + std::to_string(i) + ".";
    t.push_back({at + "input_layernorm.weight", {h}, std::span(l.attention_norm)});
    t.push_back({at + "self_attn.q_proj.weight", {q, h}, std::span(l.q)});
    t.push_back({at + "self_attn.k_proj.weight", {kv, h}, std::span(l.k)});
    t.push_back({at + "self_attn.v_proj.weight", {kv, h}, std::span(l.v)});
    t.push_back({at + "self_attn.o_proj.weight", {h, q}, std::span(l.o)});
    t.push_back({at + "post_attention_layernorm.weight", {h}, std::span(l.ffn_norm)});
    t.push_back({at + "mlp.gate_proj.weight", {f, h}, std::span(l.gate)});
    t.push_back({at + "mlp.up_proj.weight", {f, h}, std::span(l.up)});
    t.push_back({at + "mlp.down_proj.weight", {h, f}, std::span(l.down)});
  }
  return t;
}

void write_model(const scratch& folder, const model_weights& w) {
  folder.write("config.json", config_of(w.config).dump());
  ASSERT_TRUE(write_safetensors(folder / "model.safetensors", tensors_of(w)));
}

TEST(io_huggingface, loads_what_was_written) {
  for (bool tied : {false, true}) {
    const scratch folder;
    const auto w = random_model(1, tied);
    write_model(folder, w);
    const auto got = load_huggingface(folder.path());
    ASSERT_TRUE(got) << got.reason().message();
    expect_equal(*got, w);
    EXPECT_EQ(got->hash, hash_bytes(file_bytes::open(folder / "model.safetensors")->bytes()));
    EXPECT_EQ(got->head.rows == got->embedding.rows, tied);
    EXPECT_EQ(got->files.size(), 1u);
    const auto by_file = load_huggingface(folder / "model.safetensors");
    ASSERT_TRUE(by_file) << by_file.reason().message();
    expect_equal(*by_file, w);
  }
}

TEST(io_huggingface, keeps_matrices_as_they_are_stored) {
  const scratch folder;
  auto w = random_model(6, false);
  folder.write("config.json", config_of(w.config).dump());
  json header;
  std::string data;
  for (const named_tensor& t : tensors_of(w)) {
    const std::size_t begin = data.size();
    for (const float x : std::get<0>(t.values))
      put(data, static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16));
    header[t.name] = {{"dtype", "BF16"}, {"shape", t.shape}, {"data_offsets", {begin, data.size()}}};
  }
  const auto cut = [](std::vector<float>& values) {
    for (float& x : values) x = std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0xffff0000u);
  };
  cut(w.embedding), cut(w.head), cut(w.final_norm);
  for (auto& l : w.layers)
    for (auto* m : {&l.attention_norm, &l.q, &l.k, &l.v, &l.o, &l.ffn_norm, &l.gate, &l.up, &l.down}) cut(*m);
  const std::size_t norms = 1 + 2 * w.layers.size();
  // A header of an odd length puts every number at an odd address.
  for (const bool odd : {false, true}) {
    std::string text = header.dump();
    text.resize((text.size() + 1) / 2 * 2 + (odd ? 1 : 0), ' ');
    folder.write("model.safetensors", safetensors_bytes(text, 0) + data);
    const auto got = load_huggingface(folder.path());
    ASSERT_TRUE(got) << got.reason().message();
    expect_equal(*got, w);
    EXPECT_EQ(got->layers[0].q.format, weight_format::bf16);
    EXPECT_EQ(got->made.size() > norms, odd) << "copies of what is not aligned alone";
  }
}

TEST(io_huggingface, loads_shards) {
  const scratch folder;
  const auto w = random_model(2, false);
  folder.write("config.json", config_of(w.config).dump());
  const auto all = tensors_of(w);
  json map = json::object();
  const std::string names[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
  for (std::size_t s = 0; s < 2; ++s) {
    std::vector<named_tensor> part;
    for (std::size_t i = s; i < all.size(); i += 2) {
      part.push_back(all[i]);
      map[all[i].name] = names[s];
    }
    ASSERT_TRUE(write_safetensors(folder / names[s], part));
  }
  const auto write_index = [&] { folder.write("model.safetensors.index.json", json{{"weight_map", map}}.dump()); };
  write_index();
  const auto got = load_huggingface(folder.path());
  ASSERT_TRUE(got) << got.reason().message();
  expect_equal(*got, w);
  EXPECT_NE(got->hash, 0u);

  const auto index = folder / "model.safetensors.index.json";
  map["lm_head.weight"] = names[all[2].name == "lm_head.weight" ? 1 : 0];  // it lies in the other one
  write_index();
  expect_error(load_huggingface(folder.path()), errc::bad_file, index, {"puts lm_head.weight in", "no such tensor"});
  map["lm_head.weight"] = "model-00003-of-00002.safetensors";
  write_index();
  expect_error(load_huggingface(folder.path()), errc::bad_file, folder / "model-00003-of-00002.safetensors");
  for (const json& bad : {json("../" + names[0]), json((folder / names[0]).string()), json(3), json(""),
                          json("config.json"), json("\x1b[31m.safetensors"), json(std::string("\0.safetensors", 13))}) {
    map["lm_head.weight"] = bad;
    write_index();
    expect_error(load_huggingface(folder.path()), errc::bad_file, index, {"lm_head.weight", "beside it"});
  }
  for (const char* text : {"{}", "{\"weight_map\":{}}", "{\"weight_map\":[]}", "{\"weight_map\":3}", "[]", "3",
                           "{\"weight_map\":{},\"weight_map\":{}}", "{\"weight_map\":{\"a\":{}}}"}) {
    SCOPED_TRACE(text);
    folder.write("model.safetensors.index.json", text);
    expect_error(load_huggingface(folder.path()), errc::bad_file, index);
  }
  folder.write("model.safetensors.index.json", std::string((64u << 20) + 1, ' '));
  expect_error(load_huggingface(folder.path()), errc::bad_file, index, {"at most 67108864"});
}

bool has_note(const loaded_model& w, std::string_view word) {
  return std::any_of(w.notes.begin(), w.notes.end(), [&](const auto& n) { return n.find(word) != n.npos; });
}

TEST(io_huggingface, an_index_is_compared_with_its_files) {
  const scratch folder;
  const auto w = random_model(2, false);
  folder.write("config.json", config_of(w.config).dump());
  const auto all = tensors_of(w);
  const std::span<const named_tensor> tensors = all;
  json map = json::object();
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    map[all[i].name] = i < 5 ? "a.safetensors" : "b.safetensors";
    bytes += 4 * std::get<0>(all[i].values).size();
  }
  ASSERT_TRUE(write_safetensors(folder / "a.safetensors", tensors.first(5)));
  ASSERT_TRUE(write_safetensors(folder / "b.safetensors", tensors.subspan(5)));
  const auto load = [&](const json& size) {
    folder.write("model.safetensors.index.json",
                 json{{"metadata", {{"total_size", size}}}, {"weight_map", map}}.dump());
    return load_huggingface(folder.path());
  };
  auto got = load(bytes);
  ASSERT_TRUE(got) << got.reason().message();
  EXPECT_TRUE(got->notes.empty()) << got->notes[0];
  EXPECT_TRUE(load_huggingface(folder / "model.safetensors.index.json"));
  EXPECT_TRUE(has_note(*load(bytes + 4), "total_size"));
  // What a file has and the index does not list is read, as in transformers.
  map.erase(all[0].name);
  got = load(bytes);
  ASSERT_TRUE(got) << got.reason().message();
  expect_equal(*got, w);
  EXPECT_TRUE(has_note(*got, "does not list 1 tensors"));
  map[all[0].name] = "a.safetensors";
  // A tensor in both files: alike, then not.
  ASSERT_TRUE(write_safetensors(folder / "b.safetensors", tensors.subspan(4)));
  EXPECT_TRUE(load(bytes));
  auto other = all;
  const std::vector<float> changed(std::get<0>(all[4].values).size(), 1.0f);
  other[4].values = std::span(changed);
  ASSERT_TRUE(write_safetensors(folder / "b.safetensors", std::span<const named_tensor>(other).subspan(4)));
  expect_error(load(bytes), errc::bad_file, folder / "b.safetensors", {"another tensor " + all[4].name});
  // One file beside an index goes first, as in transformers.
  ASSERT_TRUE(write_safetensors(folder / "model.safetensors", all));
  got = load(bytes);
  ASSERT_TRUE(got) << got.reason().message();
  EXPECT_TRUE(has_note(*got, "beside it is not"));
  fs::copy_file(folder / "a.safetensors", folder / "model-00001-of-00002.safetensors");
  expect_error(load_huggingface(folder / "model-00001-of-00002.safetensors"), errc::bad_file,
               folder / "model-00001-of-00002.safetensors", {"one of several"});
}

TEST(io_huggingface, a_tied_head_that_is_stored_is_compared) {
  const scratch folder;
  const auto untied = random_model(3, false), tied = random_model(3, true);
  const auto model = folder / "model.safetensors";
  folder.write("config.json", config_of(tied.config).dump());
  ASSERT_TRUE(write_safetensors(model, tensors_of(untied)));
  auto got = load_huggingface(folder.path());
  ASSERT_TRUE(got) << got.reason().message();
  EXPECT_TRUE(has_note(*got, "lm_head.weight differs from the embedding"));
  expect_equal(*got, untied);
  auto same = untied;
  same.head = same.embedding;
  ASSERT_TRUE(write_safetensors(model, tensors_of(same)));
  got = load_huggingface(folder.path());
  ASSERT_TRUE(got) << got.reason().message();
  EXPECT_TRUE(got->notes.empty());
  expect_equal(*got, tied);
  auto head_only = tensors_of(tied);
  head_only[0].name = "lm_head.weight";
  ASSERT_TRUE(write_safetensors(model, head_only));
  got = load_huggingface(folder.path());
  ASSERT_TRUE(got) << got.reason().message();
  expect_equal(*got, tied);
  folder.write("config.json", config_of(untied.config).dump());
  expect_error(load_huggingface(folder.path()), errc::bad_file, model, {"embed_tokens.weight is missing"});
  ASSERT_TRUE(write_safetensors(model, tensors_of(tied)));
  expect_error(load_huggingface(folder.path()), errc::bad_file, model, {"lm_head.weight is missing", "not true"});
}

TEST(io_huggingface, loads_what_changes_nothing) {
  const scratch folder;
  const auto w = random_model(4, true);
  const auto model = folder / "model.safetensors";
  json config = config_of(w.config);
  config["bos_token_id"] = 3;
  folder.write("config.json", config.dump());
  folder.write("generation_config.json", R"({"bos_token_id": 5})");
  // A base model, whose names have no `model.`; biases of zero; angles; tensors of whole numbers and of nothing.
  auto all = tensors_of(w);
  for (named_tensor& t : all)
    if (t.name.starts_with("model.")) t.name.erase(0, 6);
  const std::vector<float> zeros(16, -0.0f);
  const std::vector<std::int32_t> ints(3, 7);
  all.push_back({"layers.1.self_attn.q_proj.bias", {16}, std::span(zeros)});
  all.push_back({"layers.1.self_attn.o_proj.bias", {16}, std::span(zeros)});
  all.push_back({"position_ids", {3}, std::span(ints)});
  all.push_back({"scaled", {2}, std::span(zeros).first(2)});
  all.push_back({"nothing", {0, 4}, std::span(zeros).first(0)});
  ASSERT_TRUE(write_safetensors(model, all));
  auto got = load_huggingface(folder.path());
  ASSERT_TRUE(got) << got.reason().message();
  auto want = w;
  want.config.bos = 3;
  expect_equal(*got, want);
  for (const char* word : {"3 tensors that are no weights", "bos_token_id 5 differs"})
    EXPECT_TRUE(has_note(*got, word)) << word;
  std::vector<float> some = zeros;
  some[5] = 0.1f;
  all[all.size() - 5].values = std::span(some);
  ASSERT_TRUE(write_safetensors(model, all));
  expect_error(load_huggingface(folder.path()), errc::not_supported, model, {"q_proj.bias is not zero"});
  all[all.size() - 5] = {"layers.0.scale", {1}, std::span(some).first(1)};
  ASSERT_TRUE(write_safetensors(model, all));
  expect_error(load_huggingface(folder.path()), errc::not_supported, model, {"layers.0.scale is no part"});
}

TEST(io_huggingface, golden_checkpoints) {
  const auto gqa = load_huggingface(golden("llama_gqa"));
  ASSERT_TRUE(gqa) << gqa.reason().message();
  EXPECT_EQ(gqa->config.attention_shape(), (shape{4, 2, 16, 16}));
  EXPECT_EQ(gqa->config.bos, -1) << "a vocabulary of 256 is bytes";
  EXPECT_EQ(gqa->config.context, 256);
  EXPECT_EQ(gqa->config.norm_eps, 1e-5f);
  EXPECT_EQ(floats_of(*gqa).head.size(), 256u * 64u);
  const auto linear = load_huggingface(golden("rope_linear"));
  ASSERT_TRUE(linear) << linear.reason().message();
  rope_config rope{.dim = 8, .scaling = rope_scaling::linear, .factor = 4};
  EXPECT_EQ(linear->config.rope, rope);
  EXPECT_EQ(linear->config.bos, 1);
  const auto llama3 = load_huggingface(golden("rope_llama3"));
  ASSERT_TRUE(llama3) << llama3.reason().message();
  rope = {.dim = 8, .scaling = rope_scaling::llama3, .factor = 8, .original_context = 64};
  EXPECT_EQ(llama3->config.rope, rope);
  for (const char* name : {"rope_linear", "rope_llama3"}) {
    const auto a = load_huggingface(golden(name));
    const auto b = load_huggingface(golden(name) / "config_rope_parameters.json", golden(name) / "model.safetensors");
    ASSERT_TRUE(b) << b.reason().message();
    expect_equal(*a, *b);
    EXPECT_EQ(a->hash, b->hash);
  }
}

TEST(io_huggingface, shared_checkpoints) {
  if (!fs::exists(shared("golden"))) GTEST_SKIP() << shared("golden") << " is not there";
  const auto exact = load_huggingface(shared("golden/llama_gqa"));
  ASSERT_TRUE(exact);
  for (const auto& [name, unit] :
       {std::pair{"llama_gqa_bfloat16", 0x1p-8f}, std::pair{"llama_gqa_float16", 0x1p-11f}}) {
    const auto half = load_huggingface(shared("golden") / name);
    ASSERT_TRUE(half) << half.reason().message();
    EXPECT_EQ(half->config, exact->config);
    EXPECT_NE(half->hash, exact->hash);
    EXPECT_EQ(row_bytes(half->layers[0].q.format, 1), 2u) << "as it is stored";
    each_tensor(*half, *exact, [u = unit](const auto& a, const auto& b) {
      ASSERT_EQ(a.size(), b.size());
      for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], u * std::abs(b[i]) + 0x1p-24f);
    });
  }
  const auto tied = load_huggingface(shared("golden/llama_mha_tied"));
  ASSERT_TRUE(tied) << tied.reason().message();
  EXPECT_TRUE(tied->config.tied && tied->head.rows == tied->embedding.rows);
  EXPECT_EQ(tied->config.attention_shape(), (shape{3, 3, 16, 16}));
  const auto demo = load_huggingface(shared("demo_model/export"));
  ASSERT_TRUE(demo) << demo.reason().message();
  EXPECT_EQ(demo->config.vocab, 257);
  EXPECT_EQ(demo->config.bos, 256);
}

TEST(io_huggingface, config_layouts) {
  const scratch folder;
  const auto base = random_model(1, false).config;
  const auto with = [&](std::initializer_list<std::pair<const char*, json>> changes) {
    json j = config_of(base);
    for (const auto& [key, value] : changes) {
      if (value == "absent")
        j.erase(key);
      else
        j[key] = value;
    }
    auto c = read_config_json(folder.write("config.json", j.dump()));
    EXPECT_TRUE(c) << c.reason().message();
    return c ? *c : model_config{};
  };
  model_config want = base;
  EXPECT_EQ(with({}), want);
  EXPECT_EQ(with({{"model_type", "absent"}, {"architectures", {"LlamaForCausalLM"}}}), want);
  EXPECT_EQ(with({{"model_type", "mistral"}, {"sliding_window", nullptr}}), want);
  EXPECT_EQ(with({{"model_type", "mistral"}}), want) << "4096 are no shorter than 10";
  EXPECT_EQ(with({{"model_type", "mistral"}, {"num_key_value_heads", nullptr}}).kv_heads, 4);
  EXPECT_EQ(with({{"model_type", "mistral"}, {"num_key_value_heads", "absent"}, {"num_attention_heads", 8}}).kv_heads,
            8);
  EXPECT_EQ(with({{"sliding_window", 10}}), want);
  EXPECT_EQ(with({{"sliding_window", 3}, {"use_sliding_window", false}}), want);
  EXPECT_EQ(with({{"layer_types", {"full_attention", "full_attention", "full_attention"}}}), want);
  EXPECT_EQ(with({{"hidden_act", "swish"}, {"attention_bias", true}, {"mlp_bias", true}}), want);
  EXPECT_EQ(with({{"rope_scaling", json::object()}, {"rope_parameters", json::object()}}), want);
  EXPECT_EQ(with({{"pretraining_tp", 1}, {"attention_dropout", 0.0}, {"torch_dtype", "float32"}, {"use_cache", true}}),
            want);
  EXPECT_EQ(with({{"rope_scaling", nullptr}, {"rope_theta", 10000}, {"head_dim", nullptr}}), want);
  EXPECT_EQ(with({{"rope_scaling", {{"rope_type", "default"}}}, {"hidden_act", "silu"}, {"mlp_bias", false}}), want);
  EXPECT_EQ(with({{"num_key_value_heads", "absent"}}).kv_heads, 4);
  EXPECT_EQ(with({{"head_dim", 6}}).head_dim, 6);
  EXPECT_EQ(with({{"head_dim", 6}}).rope.dim, 6);
  EXPECT_EQ(with({{"rms_norm_eps", "absent"}}).norm_eps, 1e-6f);
  EXPECT_EQ(with({{"max_position_embeddings", "absent"}}).context, 0);
  EXPECT_EQ(with({{"rope_theta", 5e5}}).rope.theta, 5e5);
  EXPECT_EQ(with({{"rope_parameters", {{"rope_theta", 5e5}}}}).rope.theta, 5e5);
  EXPECT_EQ(with({{"rope_theta", 5e5}, {"rope_parameters", {{"rope_type", "default"}}}}).rope.theta, 5e5);
  want.rope.scaling = rope_scaling::linear;
  want.rope.factor = 2.5;
  EXPECT_EQ(with({{"rope_scaling", {{"type", "linear"}, {"factor", 2.5}}}}), want);
  EXPECT_EQ(with({{"rope_scaling", {{"rope_type", "linear"}, {"type", "linear"}, {"factor", 2.5}}}}), want);
  const json same = {{"rope_type", "linear"}, {"factor", 2.5}};
  EXPECT_EQ(with({{"rope_scaling", same}, {"rope_parameters", same}}), want);
  const json llama3 = {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
  EXPECT_EQ(with({{"rope_scaling", llama3}}).rope.original_context, 10);
  EXPECT_EQ(with({{"bos_token_id", nullptr}}).bos, -1);
  EXPECT_EQ(with({{"bos_token_id", -1}}).bos, -1);
  EXPECT_EQ(with({{"bos_token_id", {7, 8}}}).bos, 7);
  EXPECT_EQ(with({{"bos_token_id", "absent"}}).bos, 1);
  EXPECT_EQ(with({{"vocab_size", 256}, {"bos_token_id", 99999}}).bos, -1);
  EXPECT_EQ(with({{"vocab_size", 257}, {"bos_token_id", nullptr}}).bos, 256);
}

TEST(io_huggingface, refuses_what_it_would_compute_wrong) {
  const scratch folder;
  const auto base = random_model(1, false).config;
  const auto refuse = [&](errc code, const char* key, const json& value, std::string_view word) {
    json j = config_of(base);
    j[key] = value;
    SCOPED_TRACE(j.dump());
    const auto path = folder.write("config.json", j.dump());
    expect_error(read_config_json(path), code, path, {word});
  };
  const auto no = errc::not_supported, bad = errc::bad_file;
  refuse(no, "model_type", "gpt_oss", "'gpt_oss', must be llama, mistral");
  refuse(no, "sliding_window", 9, "sliding_window 9");
  refuse(bad, "sliding_window", "x", "sliding_window");
  refuse(bad, "attention_bias", 1, "attention_bias");
  refuse(bad, "mlp_bias", "yes", "mlp_bias");
  refuse(no, "hidden_act", "relu", "'relu', must be silu");
  refuse(no, "layer_types", {"full_attention", "sliding_attention", "full_attention"}, "layer_types");
  refuse(bad, "layer_types", {"full_attention"}, "layer_types has 1 entries, num_hidden_layers is 3");
  refuse(no, "text_config", {{"hidden_size", 16}}, "text_config");
  refuse(no, "attn_logit_softcapping", 50.0, "attn_logit_softcapping is 50.0");
  refuse(no, "residual_multiplier", 0.22, "residual_multiplier");
  refuse(no, "rope_interleaved", true, "rope_interleaved");
  refuse(no, "rope_parameters", {{"full_attention", {{"rope_theta", 5e5}}}}, "full_attention");
  refuse(no, "rope_parameters", {{"rope_type", "default"}, {"mrope_section", {1, 1}}}, "mrope_section");
  refuse(no, "quantization_config", json::object(), "quantization_config");
  refuse(no, "partial_rotary_factor", 0.5, "partial_rotary_factor");
  refuse(no, "rope_scaling", {{"type", "proportional"}, {"factor", 2}}, "'proportional'");
  refuse(no, "rope_scaling", {{"factor", 2}}, "type ''");
  refuse(bad, "rope_scaling", {{"type", "linear"}}, "factor is missing");
  refuse(bad, "rope_scaling", {{"type", "linear"}, {"factor", 0}}, "factor is 0");
  refuse(bad, "rope_scaling", {{"type", "linear"}, {"factor", "2"}}, "factor is \"2\"");
  refuse(bad, "rope_scaling", 3, "rope_scaling is 3");
  refuse(bad, "rope_scaling", {{"type", "llama3"}, {"factor", 2}}, "low_freq_factor is missing");
  refuse(bad, "rope_scaling",
         {{"type", "llama3"},
          {"factor", 2},
          {"low_freq_factor", 4},
          {"high_freq_factor", 4},
          {"original_max_position_embeddings", 64}},
         "above low_freq_factor");
  refuse(bad, "rope_theta", -1, "rope_theta is -1");
  refuse(bad, "rms_norm_eps", "x", "rms_norm_eps");
  refuse(bad, "hidden_size", nullptr, "hidden_size is missing");
  refuse(bad, "hidden_size", 0, "hidden_size is 0");
  refuse(bad, "hidden_size", -16, "hidden_size is -16");
  refuse(bad, "hidden_size", 16.5, "hidden_size is 16.5");
  refuse(bad, "hidden_size", 1ull << 31, "hidden_size is 2147483648");
  refuse(bad, "hidden_size", {16}, "hidden_size is [16]");
  refuse(bad, "num_attention_heads", 5, "must divide");
  refuse(bad, "num_key_value_heads", 3, "must divide num_attention_heads 4");
  refuse(bad, "hidden_size", 18, "must be a multiple");
  refuse(bad, "head_dim", 3, "must be even");
  refuse(bad, "head_dim", "x", "head_dim");
  refuse(bad, "tie_word_embeddings", "yes", "true or false");
  refuse(bad, "bos_token_id", 40, "bos_token_id is 40, must be null or in [0, 40)");
  refuse(bad, "bos_token_id", "1", "bos_token_id");
  refuse(bad, "bos_token_id", json::array(), "bos_token_id");
  for (const char* text : {"", "[]", "3", "{", "{\"a\":}", "nonsense", "\"\\"}) {
    const auto path = folder.write("config.json", text);
    expect_error(read_config_json(path), errc::bad_file, path, {"JSON"});
  }
  const auto path = folder.write("config.json", std::string(1'000'000, '['));
  expect_error(read_config_json(path), errc::bad_file, path, {"nested"});
  folder.write("config.json", std::string((16u << 20) + 1, ' '));
  expect_error(read_config_json(path), errc::bad_file, path, {"at most 1048576"});
}

TEST(io_huggingface, what_a_config_says_twice_is_compared) {
  const scratch folder;
  const json base = config_of(random_model(1, false).config);
  std::vector<std::string> notes;
  const auto read = [&](const json& changes) {
    json j = base;
    j.update(changes);
    notes.clear();
    return read_config_json(folder.write("config.json", j.dump()), &notes);
  };
  const auto noted = [&](std::string_view word) {
    return notes.size() == 1 && notes[0].find(word) != std::string::npos && notes[0].starts_with("config.json: ");
  };
  ASSERT_TRUE(read(json::object()));
  EXPECT_TRUE(notes.empty());
  // Inside wins over beside, but for the original context.
  auto c = read({{"rope_theta", 1e4}, {"rope_parameters", {{"rope_theta", 5e5}}}});
  ASSERT_TRUE(c);
  EXPECT_EQ(c->rope.theta, 5e5);
  EXPECT_TRUE(noted("rope_theta 500000.0 in rope_parameters differs"));
  ASSERT_TRUE(read({{"rope_theta", 10000}, {"rope_parameters", {{"rope_theta", 1e4}}}}));
  EXPECT_TRUE(notes.empty());
  c = read({{"original_max_position_embeddings", 64},
            {"rope_parameters",
             {{"rope_type", "llama3"},
              {"factor", 8},
              {"low_freq_factor", 1},
              {"high_freq_factor", 4},
              {"original_max_position_embeddings", 128}}}});
  ASSERT_TRUE(c);
  EXPECT_EQ(c->rope.original_context, 64);
  EXPECT_TRUE(noted("the one beside it is taken"));
  c = read({{"rope_scaling", {{"rope_type", "default"}, {"type", "linear"}, {"factor", 2}}}});
  ASSERT_TRUE(c);
  EXPECT_EQ(c->rope.scaling, rope_scaling::none);
  EXPECT_EQ(notes.size(), 2u);
  EXPECT_NE(notes[0].find("rope_type is taken"), std::string::npos);
  c = read({{"rope_parameters", {{"rope_type", "default"}, {"factor", 4}, {"beta_fast", 32}}}});
  ASSERT_TRUE(c);
  EXPECT_EQ(c->rope, (rope_config{.dim = 4}));
  EXPECT_TRUE(noted("rope_parameters of type default has no use for beta_fast, factor"));
  ASSERT_TRUE(read({{"architectures", {"Qwen2ForCausalLM"}}}));
  EXPECT_TRUE(noted("model_type is taken"));
  ASSERT_TRUE(read({{"sliding_window", 10}}));
  EXPECT_TRUE(noted("sliding_window 10 is left out"));
  ASSERT_TRUE(
      read({{"off", false}, {"none", nullptr}, {"_private", 3}, {"full_attn_mod", 1}, {"auto_map", {{"a", "b"}}}}));
  EXPECT_TRUE(notes.empty());
  for (const json& unknown : {json{{"never_heard_of", 1}}, json{{"nor_of_this", "x"}}, json{{"full_attn_mod", 2}}})
    expect_error(read(unknown), errc::not_supported, folder / "config.json", {unknown.begin().key()});
  // Both layouts at once.
  for (const json& scaling : {json{{"type", "linear"}, {"factor", 4}}, json{{"rope_theta", 5e5}}}) {
    const auto both = read({{"rope_scaling", scaling}, {"rope_parameters", {{"rope_theta", 1e4}}}});
    expect_error(both, errc::bad_file, folder / "config.json", {"rope_parameters and rope_scaling", "remove one"});
  }
  const auto path = folder.write("config.json", base.dump().insert(1, "\"hidden_size\":16,"));
  expect_error(read_config_json(path), errc::bad_file, path, {"hidden_size twice"});
}

TEST(io_huggingface, checks_every_tensor) {
  const auto w = random_model(3, false);
  const auto all = tensors_of(w);
  const scratch folder;
  write_model(folder, w);
  const auto model = folder / "model.safetensors";
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto some = all;
    some.erase(some.begin() + static_cast<std::ptrdiff_t>(i));
    ASSERT_TRUE(write_safetensors(model, some));
    expect_error(load_huggingface(model), errc::bad_file, model,
                 {all[i].name + " is missing", detail::shown(all[i].shape)});
    some = all;
    some[i].shape.push_back(1);
    ASSERT_TRUE(write_safetensors(model, some));
    expect_error(load_huggingface(model), errc::bad_file, model,
                 {all[i].name, "F32 " + detail::shown(some[i].shape), "BF16 " + detail::shown(all[i].shape)});
    some = all;
    const std::vector<std::int32_t> ints(std::get<0>(all[i].values).size());
    some[i].values = std::span(ints);
    ASSERT_TRUE(write_safetensors(model, some));
    expect_error(load_huggingface(model), errc::bad_file, model, {all[i].name + " is I32"});
  }
  auto more = all;
  const std::vector<float> extra(2);
  more.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {2}, std::span(extra)});
  ASSERT_TRUE(write_safetensors(model, more));
  auto angles = load_huggingface(model);
  ASSERT_TRUE(angles) << "tables of angles are passed over";
  EXPECT_TRUE(has_note(*angles, "inv_freq differs")) << "zeros are no angles";
  const std::vector<float> right = {1.0f, 0.01f};
  more.back().values = std::span(right);
  ASSERT_TRUE(write_safetensors(model, more));
  angles = load_huggingface(model);
  ASSERT_TRUE(angles);
  EXPECT_TRUE(angles->notes.empty());
  more.back().values = std::span(extra);
  more.back().name = "model.layers.0.self_attn.q_proj.bias";
  ASSERT_TRUE(write_safetensors(model, more));
  EXPECT_TRUE(load_huggingface(model)) << "a bias of zero";
  more.back().name = "model.layers.0.self_attn.q_norm.weight";
  ASSERT_TRUE(write_safetensors(model, more));
  expect_error(load_huggingface(model), errc::not_supported, model, {"q_norm.weight is no part"});
  write_model(folder, w);
  json config = config_of(w.config);
  config["num_hidden_layers"] = 2;
  folder.write("config.json", config.dump());
  expect_error(load_huggingface(model), errc::not_supported, model, {"model.layers.2.", "2 layers"});
  config["num_hidden_layers"] = 2147483647;
  folder.write("config.json", config.dump());
  expect_error(load_huggingface(model), errc::bad_file, model, {"model.layers.3.", "missing"});
}

TEST(io_huggingface, missing_files) {
  const scratch folder;
  const auto config = folder / "config.json", model = folder / "model.safetensors";
  expect_error(load_huggingface(folder.path()), errc::bad_file, config, {"no such file"});
  expect_error(load_huggingface(model), errc::bad_file, config, {"no such file", "beside"});
  folder.write("pytorch_model-00001-of-00002.bin", "x");
  expect_error(load_huggingface(folder.path()), errc::bad_file, config, {"pytorch_model-", "save_pretrained"});
  folder.write("config.json", "{");
  expect_error(load_huggingface(folder.path()), errc::bad_file, config, {"not JSON"});
  folder.write("config.json", config_of(random_model(1, false).config).dump());
  expect_error(load_huggingface(folder.path()), errc::bad_file, model, {"no such file", "pytorch_model-"});
  fs::remove(folder / "pytorch_model-00001-of-00002.bin");
  expect_error(load_huggingface(folder.path()), errc::bad_file, model, {"no such file"});
  folder.write("consolidated.safetensors", "x");
  expect_error(load_huggingface(folder.path()), errc::bad_file, model, {"consolidated.safetensors is there"});
  folder.write("m.gguf", "x");
  expect_error(load_huggingface(folder.path()), errc::bad_file, model, {"m.gguf is a GGUF file, name it"});
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
  folder.write("model.safetensors", pointer);
  expect_error(load_huggingface(folder.path()), errc::bad_file, model, {"Git LFS pointer", "git lfs pull"});
  folder.write("config.json", pointer);
  expect_error(load_huggingface(folder.path()), errc::bad_file, config, {"Git LFS pointer"});
}

TEST(io_huggingface, survives_damage) {
  const scratch folder;
  const auto w = random_model(1, false);
  write_model(folder, w);
  const auto whole = file_bytes::open(folder / "model.safetensors");
  const std::string bytes(reinterpret_cast<const char*>(whole->bytes().data()), whole->size());
  const auto config = folder / "config.json", model = folder / "model.safetensors";
  damage(folder, "t.safetensors", bytes, 2000, [&](const fs::path& path) { return load_huggingface(config, path); });
  damage(folder, "c.json", config_of(w.config).dump(), 2000,
         [&](const fs::path& path) { return load_huggingface(path, model); });
}

}  // namespace
