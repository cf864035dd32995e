#include "files.hpp"

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
    EXPECT_EQ(&got->output_matrix() == &got->embedding, tied);
    const auto by_file = load_huggingface(folder / "model.safetensors");
    ASSERT_TRUE(by_file) << by_file.reason().message();
    expect_equal(*by_file, w);
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
  expect_error(load_huggingface(folder.path()), errc::bad_file, folder / names[1], {"lm_head.weight is missing"});
  map["lm_head.weight"] = "model-00003-of-00002.safetensors";
  write_index();
  expect_error(load_huggingface(folder.path()), errc::bad_file, folder / "model-00003-of-00002.safetensors");
  for (const json& bad :
       {json("../" + names[0]), json((folder / names[0]).string()), json(3), json(""), json("config.json")}) {
    map["lm_head.weight"] = bad;
    write_index();
    expect_error(load_huggingface(folder.path()), errc::bad_file, index, {"lm_head.weight", "beside it"});
  }
  map.erase("lm_head.weight");
  write_index();
  expect_error(load_huggingface(folder.path()), errc::bad_file, index, {"lm_head.weight is missing"});
  folder.write("model.safetensors.index.json", "{}");
  expect_error(load_huggingface(folder.path()), errc::bad_file, index, {"weight_map"});
}

TEST(io_huggingface, golden_checkpoints) {
  const auto gqa = load_huggingface(golden("llama_gqa"));
  ASSERT_TRUE(gqa) << gqa.reason().message();
  EXPECT_EQ(gqa->config.attention_shape(), (shape{4, 2, 16, 16}));
  EXPECT_EQ(gqa->config.bos, -1) << "a vocabulary of 256 is bytes";
  EXPECT_EQ(gqa->config.context, 256);
  EXPECT_EQ(gqa->config.norm_eps, 1e-5f);
  EXPECT_EQ(gqa->head.size(), 256u * 64u);
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
    each_tensor(*half, *exact, [u = unit](const auto& a, const auto& b) {
      ASSERT_EQ(a.size(), b.size());
      for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], u * std::abs(b[i]) + 0x1p-24f);
    });
  }
  const auto tied = load_huggingface(shared("golden/llama_mha_tied"));
  ASSERT_TRUE(tied) << tied.reason().message();
  EXPECT_TRUE(tied->config.tied && tied->head.empty());
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
    auto c = read_llama_config(folder.write("config.json", j.dump()));
    EXPECT_TRUE(c) << c.reason().message();
    return c ? *c : model_config{};
  };
  model_config want = base;
  EXPECT_EQ(with({}), want);
  EXPECT_EQ(with({{"model_type", "absent"}, {"architectures", {"LlamaForCausalLM"}}}), want);
  EXPECT_EQ(with({{"model_type", "mistral"}, {"sliding_window", nullptr}}), want);
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
    expect_error(read_llama_config(path), code, path, {word});
  };
  const auto no = errc::not_supported, bad = errc::bad_file;
  refuse(no, "model_type", "qwen2", "'qwen2', must be llama");
  refuse(no, "model_type", "mistral", "sliding_window");
  refuse(no, "sliding_window", 4096, "sliding_window");
  refuse(no, "attention_bias", true, "attention_bias");
  refuse(no, "mlp_bias", true, "mlp_bias");
  refuse(no, "hidden_act", "gelu", "'gelu', must be silu");
  refuse(no, "quantization_config", json::object(), "quantization_config");
  refuse(no, "partial_rotary_factor", 0.5, "partial_rotary_factor");
  refuse(no, "rope_scaling", {{"type", "yarn"}, {"factor", 2}}, "'yarn'");
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
    expect_error(read_llama_config(path), errc::bad_file, path, {"JSON"});
  }
  const auto path = folder.write("config.json", std::string(1'000'000, '['));
  expect_error(read_llama_config(path), errc::bad_file, path, {"nested"});
  folder.write("config.json", std::string((16u << 20) + 1, ' '));
  expect_error(read_llama_config(path), errc::bad_file, path, {"at most 16777216"});
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
  EXPECT_TRUE(load_huggingface(model)) << "tables of angles are passed over";
  more.back().name = "model.layers.0.self_attn.q_proj.bias";
  ASSERT_TRUE(write_safetensors(model, more));
  expect_error(load_huggingface(model), errc::not_supported, model, {"q_proj.bias is no part"});
  write_model(folder, w);
  json config = config_of(w.config);
  config["num_hidden_layers"] = 2;
  folder.write("config.json", config.dump());
  expect_error(load_huggingface(model), errc::not_supported, model, {"model.layers.2.", "2 layers"});
  config["num_hidden_layers"] = 2147483647;
  folder.write("config.json", config.dump());
  expect_error(load_huggingface(model), errc::bad_file, model, {"model.layers.3.", "missing"});
  config = config_of(w.config);
  config["tie_word_embeddings"] = true;
  folder.write("config.json", config.dump());
  const auto tied = load_huggingface(model);
  ASSERT_TRUE(tied) << "a tied model's own head is not read";
  EXPECT_TRUE(tied->head.empty());
}

TEST(io_huggingface, missing_files) {
  const scratch folder;
  expect_error(load_huggingface(folder.path()), errc::bad_file, folder / "config.json", {"no such file"});
  folder.write("config.json", config_of(random_model(1, false).config).dump());
  expect_error(load_huggingface(folder.path()), errc::bad_file, folder / "model.safetensors", {"no such file"});
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
