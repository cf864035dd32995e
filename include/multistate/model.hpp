#pragma once

/// Models: the reference decoder with bounded memories, sampling, tokenizers, files of them, and comparing policies.

#include <multistate/util/language.hpp>  // first: says what is missing

#include <multistate/util/macros_off.hpp>

#include <multistate/eval/compare.hpp>
#include <multistate/eval/figures.hpp>
#include <multistate/eval/oracle.hpp>
#include <multistate/eval/sample.hpp>
#include <multistate/io/model_file.hpp>
#include <multistate/io/text_file.hpp>
#include <multistate/io/tokenizer_file.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/model/packed_weights.hpp>
#include <multistate/model/sampling.hpp>
#include <multistate/tokenizer/tokenizer.hpp>

#include <multistate/util/macros_on.hpp>
