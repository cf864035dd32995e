// One sequence whose states lie on several machines. Each rank attends to its own; the parts are merged to attention
// over all of them, and TOVA drops the lowest of all, wherever it lies. Every rank also keeps the whole sequence by
// itself, and the program fails where the two differ. mpirun -n 2 sharded_attention

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

#include <multistate/policies.hpp>
#include <multistate/scan/element.hpp>

namespace {

using namespace multistate;
constexpr int tokens = 400, budget = 48, heads = 4;
constexpr std::size_t d = 16, part = 2 + d;  // of one head: largest logit, sum, weighted value

struct state {
  position at;
  std::vector<double> k, v;  // [heads][d]
};

/// Attention over these states, [heads][part], as it goes over the wire.
std::vector<double> attend(const std::vector<state>& states, const std::vector<double>& q) {
  std::vector<double> parts(heads * part);
  for (std::size_t h = 0; h < heads; ++h) {
    scan_element<double> e{.value = std::span(parts).subspan(h * part + 2, d)};
    for (const state& s : states) {
      double logit = 0;
      for (std::size_t i = h * d; i < (h + 1) * d; ++i) logit += q[i] * s.k[i];
      scan_add<double>(e, logit, std::span(s.v).subspan(h * d, d));
    }
    parts[h * part] = e.max;
    parts[h * part + 1] = e.sum;
  }
  return parts;
}

/// into = attention over the states of both.
void merge(double* into, double* from) {
  scan_element<double> a{into[0], into[1], {into + 2, d}};
  scan_merge<double>(a, {from[0], from[1], {from + 2, d}});
  into[0] = a.max;
  into[1] = a.sum;
}

/// The merge as an operation of MPI's: it computes inout = in + inout.
void merge_all(void* in, void* inout, int* count, MPI_Datatype*) {
  for (int i = 0; i < *count; ++i)
    merge(static_cast<double*>(inout) + std::size_t(i) * part, static_cast<double*>(in) + std::size_t(i) * part);
}

/// What the query gives each state, summed over heads: their weights in the softmax over all states, whose maxima and
/// sums are those of `merged`.
std::vector<float> row_of(const std::vector<state>& states, const std::vector<double>& q,
                          const std::vector<double>& merged) {
  std::vector<float> row;
  for (const state& s : states) {
    double weight = 0;
    for (std::size_t h = 0; h < heads; ++h) {
      double logit = 0;
      for (std::size_t i = h * d; i < (h + 1) * d; ++i) logit += q[i] * s.k[i];
      weight += std::exp(logit - merged[h * part]) / merged[h * part + 1];
    }
    row.push_back(static_cast<float>(weight));
  }
  return row;
}

/// The state of lowest worth, of equals the oldest; none: its worth is infinite.
struct lowest_state {
  double worth = HUGE_VAL, at = 0;
  std::size_t index = 0;
};
lowest_state lowest_of(const std::vector<state>& states, const std::vector<float>& row) {
  if (states.empty()) return {};
  std::vector<position> positions;
  for (const state& s : states) positions.push_back(s.at);
  slot found{};
  lowest(row, positions, {{0, 0}, tokens, {}}, {&found, 1});
  return {static_cast<double>(row[index(found)]), static_cast<double>(positions[index(found)]), index(found)};
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double off = 0;
  for (std::size_t i = 0; i < a.size(); i += part)
    for (std::size_t j = 2; j < part; ++j) off = std::max(off, std::abs(a[i + j] / a[i + 1] - b[i + j] / b[i + 1]));
  return off;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Datatype head;
  MPI_Type_contiguous(int{part}, MPI_DOUBLE, &head);
  MPI_Type_commit(&head);
  MPI_Op merged_parts;
  MPI_Op_create(merge_all, 1, &merged_parts);

  std::vector<state> own, all;
  std::mt19937 rng(1);  // the same on every rank: stands for the model, which every rank runs
  std::normal_distribution<double> normal;
  double gathering = 0, reducing = 0, off = 0;
  bool same = true;
  for (int t = 0; t < tokens; ++t) {
    std::vector<double> q(heads * d), k(heads * d), v(heads * d);
    for (auto* x : {&q, &k, &v})
      for (double& e : *x) e = normal(rng);
    all.push_back({t, k, v});
    if (t % ranks == rank) own.push_back(all.back());

    // Gathered and folded in rank order: the same bits on every rank, and in every run on as many ranks.
    const std::vector<double> mine = attend(own, q);
    std::vector<double> each(std::size_t(ranks) * mine.size()), reduced(mine.size());
    MPI_Barrier(MPI_COMM_WORLD);  // so that waiting for slower ranks is not measured
    const double begin = MPI_Wtime();
    MPI_Allgather(mine.data(), heads, head, each.data(), heads, head, MPI_COMM_WORLD);
    std::vector<double> merged(each.begin(), each.begin() + std::ptrdiff_t(mine.size()));
    for (std::size_t r = 1; r < std::size_t(ranks); ++r)
      for (std::size_t h = 0; h < heads; ++h) merge(&merged[h * part], &each[r * mine.size() + h * part]);
    // In an order that MPI chooses: less on the wire where there are many ranks.
    const double middle = MPI_Wtime();
    MPI_Barrier(MPI_COMM_WORLD);
    const double again = MPI_Wtime();
    MPI_Allreduce(mine.data(), reduced.data(), heads, head, merged_parts, MPI_COMM_WORLD);
    gathering += middle - begin;
    reducing += MPI_Wtime() - again;
    const std::vector<double> alone = attend(all, q);
    off = std::max({off, distance(merged, alone), distance(reduced, alone)});

    // TOVA over all shards: the lowest over ranks of each rank's lowest, exactly.
    if (all.size() <= budget) continue;
    const lowest_state candidate = lowest_of(own, row_of(own, q, merged));
    const double offered[2] = {candidate.worth, candidate.at};
    std::vector<double> offers(2 * std::size_t(ranks));
    MPI_Allgather(offered, 2, MPI_DOUBLE, offers.data(), 2, MPI_DOUBLE, MPI_COMM_WORLD);
    std::size_t taken = 0;
    for (std::size_t r = 1; r < std::size_t(ranks); ++r)
      if (offers[2 * r] < offers[2 * taken] ||
          (!(offers[2 * taken] < offers[2 * r]) && offers[2 * r + 1] < offers[2 * taken + 1]))
        taken = r;
    if (taken == std::size_t(rank)) own.erase(own.begin() + std::ptrdiff_t(candidate.index));
    const lowest_state by_one = lowest_of(all, row_of(all, q, alone));
    same = same && all[by_one.index].at == static_cast<position>(offers[2 * taken + 1]);
    all.erase(all.begin() + std::ptrdiff_t(by_one.index));
  }
  if (rank == 0)
    std::printf(
        "%d ranks: outputs differ by %.1e, dropped states are %s; %d bytes a rank and token; "
        "gather %.1f us, reduce %.1f us a token\n",
        ranks, off, same ? "the same" : "OTHERS", int{heads * part * sizeof(double)}, gathering / tokens * 1e6,
        reducing / tokens * 1e6);
  MPI_Op_free(&merged_parts);
  MPI_Type_free(&head);
  MPI_Finalize();
  return off < 1e-6 && same ? 0 : 1;
}
