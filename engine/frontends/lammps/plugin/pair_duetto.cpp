/* Copyright (C) the Duetto authors.

   This program is free software; you can redistribute it and/or modify it under the terms of the
   GNU General Public License, version 2, as published by the Free Software Foundation. It is
   distributed WITHOUT ANY WARRANTY. See the file LICENSE in this folder. */

// LAMMPS pair style "duetto": walks LAMMPS's full neighbour list, hands the edges of this rank's
// atoms to Duetto in the same process, and puts the gradients by edges back on atoms, ghosts
// included; LAMMPS's reverse communication brings the ghosts' share home.

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "universe.h"
#include "update.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

using namespace LAMMPS_NS;

// ---------------------------------------------------------------------------------------------
// What both halves share; callback.py declares the same.

extern "C" {

struct DuettoEdges {
  int64_t step;
  int32_t nlocal, ntotal, nlist;    // owned atoms, owned and ghost atoms, centres
  int64_t npairs;
  const double *x;          // (ntotal, 3) Å
  const int32_t *type;      // (ntotal,) from 1
  const int64_t *tag;       // (ntotal,)
  const int32_t *iatoms;    // (nlist,) the centres
  const int32_t *pair_i;    // (npairs,) sorted by centre
  const int32_t *pair_j;    // (npairs,)
  const double *rij;        // (npairs, 3) r_j − r_i, Å
  const double *weight;     // (nlocal,) of atoms whose type asks for it, or null
  double *energy;           // (nlist,) OUTPUT, eV
  double *gradient;         // (npairs, 3) OUTPUT, dE/dr_ij, eV/Å
};

struct DuettoType {
  double mass;         // of the element, amu; 0 where it is none
  int32_t present;     // 0: NULL, of other pair styles alone
  int32_t weighted;    // whether its weights are the atoms' own
  int32_t seed;        // whether weights follow it
};

// Of weights that follow seeds: first the weights at these positions, then, with the energies, the
// forces by which weights depend on positions. P = nlocal + nseeds places: this rank's own atoms,
// then all seeds of all ranks.
struct DuettoSeeds {
  int32_t nlocal, nseeds;
  int32_t fresh;            // whether the order of the atoms may be another one than last time
  int32_t by_atom;          // whether virials of atoms are wanted
  int32_t periodic[3];
  int32_t renewed;          // OUTPUT, whether `wide` has changed
  double skin;              // Å
  double cell[9];           // rows are the vectors, Å
  const double *x;          // (P, 3) Å
  const int32_t *type;      // (nlocal,) from 1
  const double *own;        // (nlocal,) of atoms whose type asks for it, or null
  double *weight;           // (nlocal,) OUTPUT
  int32_t *wide;            // (nlocal,) OUTPUT, whether hf may be asked before `wide` is renewed
  double *force;            // (P, 3) OUTPUT, eV/Å
  double *virial;           // (P, 3, 3) OUTPUT if by_atom, else (3, 3) of all, eV
};

// All return 0, or another number and a line in `message`.
struct DuettoCallbacks {
  int32_t (*open)(int32_t id, const char *arguments, int32_t local_rank, int32_t local_size,
                  char *message, int32_t length);
  // cutoffs: (2, ntypes, ntypes) by centre and neighbour; the second where hf is not asked
  int32_t (*coeff)(int32_t id, int32_t ntypes, const char *arguments, double *cutoffs,
                   DuettoType *types, char *message, int32_t length);
  int32_t (*follow)(int32_t id, DuettoSeeds *seeds, char *message, int32_t length);
  // seeds: null where weights follow nothing
  int32_t (*compute)(int32_t id, const DuettoEdges *edges, DuettoSeeds *seeds, char *message,
                     int32_t length);
  void (*close)(int32_t id);
};

static DuettoCallbacks callbacks = {nullptr, nullptr, nullptr, nullptr, nullptr};
static int next_id = 0;
static int node_rank = 0, node_size = 0;    // of this process among those of its machine

void duetto_register(const DuettoCallbacks *table) { callbacks = *table; }

int32_t duetto_ranks()
{
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

void duetto_gather(double value, double *all)
{
  MPI_Gather(&value, 1, MPI_DOUBLE, all, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
}

// A barrier that leaves the processor to those who still work: MPI's own spins.
void duetto_wait_for_all()
{
  MPI_Request request;
  int done = 0;
  MPI_Ibarrier(MPI_COMM_WORLD, &request);
  while (!done) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (!done) platform::usleep(2000);
  }
}
}

// ---------------------------------------------------------------------------------------------

namespace {

constexpr int MESSAGE = 1024;
const char *const WEIGHTS = "duetto";           // of fix property/atom d_duetto
const char *const PRESENT = "duetto_now";       // d_duetto_now: w of atoms whose weights follow

std::string joined(int narg, char **arg)
{
  std::string text;
  for (int i = 0; i < narg; i++) text += (i ? "\n" : "") + std::string(arg[i]);
  return text;
}

class PairDuetto : public Pair {
 public:
  PairDuetto(LAMMPS *lmp) : Pair(lmp), id(next_id++)
  {
    single_enable = 0;
    restartinfo = 0;
    one_coeff = 1;
    manybody_flag = 1;
    unit_convert_flag = 0;
    no_virial_fdotr_compute = 1;
    centroidstressflag = CENTROID_NOTAVAIL;
  }

  ~PairDuetto() override
  {
    if (opened) callbacks.close(id);
    if (allocated) {
      memory->destroy(setflag);
      memory->destroy(cutsq);
    }
  }

  void settings(int narg, char **arg) override
  {
    if (!callbacks.open)
      error->all(FLERR, "pair style duetto computes in Python: start this script with "
                        "\"mpirun -n N duetto lammps SCRIPT\"");
    if (opened) callbacks.close(id);
    opened = false;
    char message[MESSAGE] = "";
    int failed =
        callbacks.open(id, joined(narg, arg).c_str(), node_rank, node_size, message, MESSAGE);
    agree(failed, message);
    opened = true;
  }

  void coeff(int narg, char **arg) override
  {
    const int n = atom->ntypes;
    if (narg < 3 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
      error->all(FLERR, "pair style duetto: use \"pair_coeff * * FILE.duetto NAME …\" with a name "
                        "for each of the {} atom types, such as Pt, Pt_simple or Pt_blend", n);
    cutoffs.assign((size_t) 2 * n * n, 0.0);
    types.assign(n, {0.0, 1, 0, 0});
    char message[MESSAGE] = "";
    int failed = callbacks.coeff(id, n, joined(narg - 2, arg + 2).c_str(), cutoffs.data(),
                                 types.data(), message, MESSAGE);
    agree(failed, message);
    follows = std::any_of(types.begin(), types.end(), [](const DuettoType &t) { return t.seed; });
    if (!allocated) {
      memory->create(setflag, n + 1, n + 1, "pair:setflag");
      memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
      allocated = 1;
    }
    for (int i = 1; i <= n; i++)
      for (int j = 1; j <= n; j++)
        setflag[i][j] = j >= i && types[i - 1].present && types[j - 1].present;
    list_of = -1;
  }

  void init_style() override
  {
    if (!force->newton_pair)
      error->all(FLERR, "pair style duetto needs \"newton on\": forces on ghost atoms travel home");
    if (strcmp(update->unit_style, "metal") != 0)
      error->all(FLERR, "pair style duetto computes in eV and Å: use \"units metal\"");
    doubt_weights();
    require_all_neighbors();
    doubt_order();
    list_of = -1;
    neighbor->add_request(this, NeighConst::REQ_FULL);
  }

  void setup() override { list_of = -1; }

  double init_one(int i, int j) override { return std::max(cutoff(i, j, 1), cutoff(j, i, 1)); }

  void compute(int eflag, int vflag) override
  {
    ev_init(eflag, vflag);
    const double began = platform::walltime();
    // Some commands set the count of builds back without a new init: the age tells as well.
    const bool fresh = neighbor->ago == 0 || list_of != neighbor->ncalls;
    // At the very step of a build no atom has moved since; not so in a step of several parts, and
    // where LAMMPS comes twice to that step.
    const bool built_here = neighbor->ago == 0 && list_of != neighbor->ncalls &&
        strncmp(update->integrate_style, "respa", 5) != 0;
    const bool renewed = follows && follow(fresh);
    if (fresh || renewed) keep_near(built_here ? neighbor->skin : 2.0 * neighbor->skin);
    find_edges();
    call();
    add(eflag);
    if (follows) add_following();
    seconds += platform::walltime() - began;
    calls++;
  }

  // At the end of a run: what each rank spent here, so that a user sees how even the work is.
  void finish() override
  {
    std::vector<double> all(comm->nprocs);
    double mine = calls ? 1e3 * seconds / calls : 0.0;
    MPI_Gather(&mine, 1, MPI_DOUBLE, all.data(), 1, MPI_DOUBLE, 0, world);
    last_ms = mine;
    if (comm->me == 0 && calls) {
      double most = 0.0, sum = 0.0;
      std::string text;
      for (double ms : all) {
        most = std::max(most, ms);
        sum += ms;
        text += fmt::format(" {:.2f}", ms);
      }
      utils::logmesg(lmp, "Duetto: ms per step on each rank:{}; longest over mean: {:.2f}\n", text,
                     sum > 0.0 ? most * all.size() / sum : 1.0);
    }
    seconds = 0.0;
    calls = 0;
  }

  void *extract(const char *name, int &dimension) override
  {
    dimension = 0;
    return strcmp(name, "ms_per_step") == 0 ? &last_ms : nullptr;
  }

  double memory_usage() override
  {
    return Pair::memory_usage() + sizeof(int32_t) * (neighbors.capacity() + pair_i.capacity() * 2) +
        sizeof(double) * (rij.capacity() + gradient.capacity() + places.capacity() +
                          pull.capacity() + pull_virial.capacity());
  }

 private:
  const int id;
  bool opened = false;
  bigint list_of = -1;    // the call of Neighbor::build that the kept list belongs to
  bigint calls = 0;
  double seconds = 0.0, last_ms = 0.0;
  std::vector<double> cutoffs;      // (2, ntypes, ntypes) Å, see DuettoCallbacks::coeff
  std::vector<DuettoType> types;    // (ntypes,)
  std::vector<int64_t> first, tag;
  std::vector<int32_t> neighbors, pair_i, pair_j;
  std::vector<double> rij, gradient, energy;

  // of weights that follow seeds
  bool follows = false;
  DuettoSeeds seeds;
  std::vector<int> seeds_here, seed_place;    // this rank's seeds, and their places among all
  std::vector<double> places, weight, pull, pull_virial, sums;
  std::vector<int32_t> wide;

  double cutoff(int i, int j, int hf) const
  {
    return cutoffs[((size_t) (1 - hf) * atom->ntypes + i - 1) * atom->ntypes + j - 1];
  }

  // One line from the first rank that failed, on all ranks.
  void agree(int failed, char *message)
  {
    int lowest, mine = failed ? comm->me : comm->nprocs;
    MPI_Allreduce(&mine, &lowest, 1, MPI_INT, MPI_MIN, world);
    if (lowest == comm->nprocs) return;
    MPI_Bcast(message, MESSAGE, MPI_CHAR, lowest, world);
    error->all(FLERR, "{}", std::string(message));
  }

  const double *weights()
  {
    bool asked = false;
    for (const DuettoType &t : types) asked = asked || t.weighted;
    if (!asked) return nullptr;
    int flag = 0, columns = 0;
    const int index = atom->find_custom(WEIGHTS, flag, columns);
    if (index < 0 || flag != 1 || columns != 0)
      error->all(FLERR, "types called NAME_blend need their weights: "
                        "\"fix blend all property/atom d_duetto ghost yes\"");
    return atom->dvector[index];
  }

  // A blend is between 0 and 1: weights that are all 0 have not come along.
  void doubt_weights()
  {
    const double *own = weights();
    double here[2] = {0.0, 0.0}, all[2];    // atoms of a blend, and their weights
    for (int i = 0; i < atom->nlocal && own; i++)
      if (types[atom->type[i] - 1].weighted) {
        here[0] += 1.0;
        here[1] += own[i];
      }
    MPI_Allreduce(here, all, 2, MPI_DOUBLE, MPI_SUM, world);
    if (comm->me == 0 && all[0] > 0.0 && all[1] == 0.0)
      error->warning(FLERR, "The weights of all {:.0f} atoms of types called NAME_blend are 0: "
                            "read_data takes them with \"fix ID NULL SECTION\", and after "
                            "read_restart the fix property/atom must have the ID that it had",
                     all[0]);
  }

  bool ours(int type) const { return types[type - 1].present; }

  // An expert that misses a neighbour computes another structure.
  void require_all_neighbors()
  {
    bool missing = neighbor->includegroup || neighbor->nex_group || neighbor->nex_mol;
    for (int k = 0; k < neighbor->nex_type; k++)
      missing = missing || (ours(neighbor->ex1_type[k]) && ours(neighbor->ex2_type[k]));
    if (missing)
      error->all(FLERR, "pair style duetto needs all neighbors of an atom: leave out \"neigh_modify "
                        "exclude\" and \"include\"; fix setforce 0 0 0 keeps atoms still");
    int bonded = 0, somewhere = 0;
    for (int i = 0; i < atom->nlocal && atom->nspecial && !bonded; i++)
      bonded = ours(atom->type[i]) && atom->nspecial[i][2] > 0;
    MPI_Allreduce(&bonded, &somewhere, 1, MPI_INT, MPI_MAX, world);
    for (int k = 1; k <= 3 && somewhere; k++)
      if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
        error->all(FLERR, "pair style duetto needs all neighbors of an atom, bonded ones, too: use "
                          "\"special_bonds lj/coul 1 1 1\"");
  }

  // Names in another order than the types: seen where masses tell.
  void doubt_order()
  {
    if (!atom->mass) return;
    for (int t = 1; t <= atom->ntypes; t++) {
      const double named = types[t - 1].mass, has = atom->mass[t];
      if (named <= 0.0 || (has > 0.7 * named && has < 1.4 * named)) continue;
      for (const DuettoType &other : types)
        if (other.mass > 0.0 && has > 0.98 * other.mass && has < 1.02 * other.mass) {
          if (comm->me == 0)
            error->warning(FLERR, "Type {} has mass {} and pair_coeff calls it an element of {}: "
                                  "its names go in the order of the types", t, has, named);
          break;
        }
    }
  }

  // Every rank learns where all seeds are, in the order of their numbers.
  void gather_seeds()
  {
    const int *type = atom->type;
    seeds_here.clear();
    for (int i = 0; i < atom->nlocal; i++)
      if (types[type[i] - 1].seed) seeds_here.push_back(i);
    const int ranks = comm->nprocs;
    int mine = 4 * (int) seeds_here.size();
    std::vector<int> counts(ranks), begin(ranks + 1, 0);
    MPI_Allgather(&mine, 1, MPI_INT, counts.data(), 1, MPI_INT, world);
    for (int rank = 0; rank < ranks; rank++) begin[rank + 1] = begin[rank] + counts[rank];
    std::vector<double> sent, all(begin[ranks]);
    for (int i : seeds_here) {
      sent.push_back(atom->tag_enable ? (double) atom->tag[i] : 0.0);
      sent.insert(sent.end(), atom->x[i], atom->x[i] + 3);
    }
    MPI_Allgatherv(sent.data(), mine, MPI_DOUBLE, all.data(), counts.data(), begin.data(),
                   MPI_DOUBLE, world);
    const int n = begin[ranks] / 4;
    std::vector<int> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&all](int a, int b) { return all[4 * a] < all[4 * b]; });
    places.resize(3 * (size_t) (atom->nlocal + n));
    if (atom->nlocal) std::copy_n(atom->x[0], 3 * (size_t) atom->nlocal, places.begin());
    seed_place.resize(seeds_here.size());
    for (int k = 0; k < n; k++) {
      std::copy_n(&all[4 * order[k] + 1], 3, &places[3 * (size_t) (atom->nlocal + k)]);
      const int here = order[k] - begin[comm->me] / 4;
      if (here >= 0 && here < (int) seeds_here.size()) seed_place[here] = k;
    }
    seeds.nseeds = n;
  }

  // Weights at these positions; whether it has changed which atoms hf may be asked for.
  bool follow(bool fresh)
  {
    gather_seeds();
    const int n = atom->nlocal;
    weight.resize(std::max(n, 1));
    wide.resize(std::max(n, 1));
    seeds.nlocal = n;
    seeds.fresh = fresh;
    seeds.renewed = 0;
    seeds.by_atom = vflag_atom ? 1 : 0;
    seeds.skin = neighbor->skin;
    for (int k = 0; k < 3; k++) seeds.periodic[k] = domain->periodicity[k];
    const double cell[9] = {domain->xprd, 0.0, 0.0, domain->xy, domain->yprd, 0.0,
                            domain->xz, domain->yz, domain->zprd};
    std::copy_n(cell, 9, seeds.cell);
    seeds.x = places.data();
    seeds.type = atom->type;
    seeds.own = weights();
    seeds.weight = weight.data();
    seeds.wide = wide.data();
    pull.assign(places.size(), 0.0);
    pull_virial.assign(seeds.by_atom ? 3 * places.size() : 9, 0.0);
    seeds.force = pull.data();
    seeds.virial = pull_virial.data();
    char message[MESSAGE] = "";
    if (callbacks.follow(id, &seeds, message, MESSAGE))
      error->one(FLERR, "{}", std::string(message));
    int flag = 0, columns = 0;
    const int index = atom->find_custom(PRESENT, flag, columns);
    if (index >= 0 && flag == 1 && columns == 0)
      std::copy_n(weight.begin(), n, atom->dvector[index]);
    return seeds.renewed;
  }

  // What a centre may ask for: all it can see, or what lf sees where hf is out of question.
  int asks(int i) const { return follows ? wide[i] : 1; }

  // The list is for the longer of the two cutoffs of a pair of types: keep what each centre sees.
  void keep_near(double margin)
  {
    double **x = atom->x;
    const int *type = atom->type;
    const int n = list->inum;
    first.assign(n + 1, 0);
    neighbors.clear();
    for (int ii = 0; ii < n; ii++) {
      const int i = list->ilist[ii];
      const int *js = list->firstneigh[i];
      for (int jj = 0; jj < list->numneigh[i]; jj++) {
        const int j = js[jj] & NEIGHMASK;
        const double reach = cutoff(type[i], type[j], asks(i)) + margin;
        const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
        if (dx * dx + dy * dy + dz * dz < reach * reach) neighbors.push_back(j);
      }
      first[ii + 1] = neighbors.size();
    }
    const int ntotal = atom->nlocal + atom->nghost;
    tag.resize(ntotal);
    for (int i = 0; i < ntotal; i++) tag[i] = atom->tag_enable ? atom->tag[i] : 0;
    list_of = neighbor->ncalls;
  }

  void find_edges()
  {
    double **x = atom->x;
    const int *type = atom->type;
    pair_i.resize(neighbors.size());
    pair_j.resize(neighbors.size());
    rij.resize(3 * neighbors.size());
    size_t e = 0;
    for (int ii = 0; ii < list->inum; ii++) {
      const int i = list->ilist[ii];
      for (int64_t slot = first[ii]; slot < first[ii + 1]; slot++) {
        const int j = neighbors[slot];
        const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
        const double reach = cutoff(type[i], type[j], asks(i));
        if (dx * dx + dy * dy + dz * dz >= reach * reach) continue;
        pair_i[e] = i;
        pair_j[e] = j;
        rij[3 * e] = dx;
        rij[3 * e + 1] = dy;
        rij[3 * e + 2] = dz;
        e++;
      }
    }
    pair_i.resize(e);
    pair_j.resize(e);
    rij.resize(3 * e);
    gradient.resize(3 * e);
    energy.resize(list->inum);
  }

  void call()
  {
    DuettoEdges edges;
    edges.step = update->ntimestep;
    edges.nlocal = atom->nlocal;
    edges.ntotal = atom->nlocal + atom->nghost;
    edges.nlist = list->inum;
    edges.npairs = pair_i.size();
    edges.x = edges.ntotal ? atom->x[0] : nullptr;
    edges.type = atom->type;
    edges.tag = tag.data();
    edges.iatoms = list->ilist;
    edges.pair_i = pair_i.data();
    edges.pair_j = pair_j.data();
    edges.rij = rij.data();
    edges.weight = follows ? weight.data() : weights();
    edges.energy = energy.data();
    edges.gradient = gradient.data();
    char message[MESSAGE] = "";
    if (callbacks.compute(id, &edges, follows ? &seeds : nullptr, message, MESSAGE))
      error->one(FLERR, "{}", std::string(message));
  }

  void add(int eflag)
  {
    double **f = atom->f;
    for (int ii = 0; ii < list->inum; ii++) {
      if (eflag_global) eng_vdwl += energy[ii];
      if (eflag_atom) eatom[list->ilist[ii]] += energy[ii];
    }
    for (size_t e = 0; e < pair_i.size(); e++) {
      const int i = pair_i[e], j = pair_j[e];
      const double *g = &gradient[3 * e], *r = &rij[3 * e];
      for (int k = 0; k < 3; k++) {
        f[i][k] += g[k];
        f[j][k] -= g[k];
      }
      if (!vflag_either) continue;
      // xx, yy, zz, xy, xz, yz of −r ⊗ g; half to either atom, as LAMMPS does for pairs.
      const double v[6] = {-r[0] * g[0], -r[1] * g[1], -r[2] * g[2],
                           -r[0] * g[1], -r[0] * g[2], -r[1] * g[2]};
      for (int k = 0; k < 6; k++) {
        if (vflag_global) virial[k] += v[k];
        if (vflag_atom) {
          vatom[i][k] += 0.5 * v[k];
          vatom[j][k] += 0.5 * v[k];
        }
      }
    }
  }

  // The forces on this rank's atoms by their own weights, and what all ranks' weights do to seeds.
  void add_following()
  {
    const int n = atom->nlocal, S = seeds.nseeds;
    const int columns = seeds.by_atom ? 12 : 3;    // a seed's force, then its virial
    sums.resize((size_t) columns * S);
    for (int k = 0; k < S; k++) {
      std::copy_n(&pull[3 * (size_t) (n + k)], 3, &sums[(size_t) columns * k]);
      if (seeds.by_atom)
        std::copy_n(&pull_virial[9 * (size_t) (n + k)], 9, &sums[(size_t) columns * k + 3]);
    }
    if (S)
      MPI_Allreduce(MPI_IN_PLACE, sums.data(), columns * S, MPI_DOUBLE, MPI_SUM, world);
    for (int i = 0; i < n; i++)
      for (int k = 0; k < 3; k++) atom->f[i][k] += pull[3 * (size_t) i + k];
    for (size_t here = 0; here < seeds_here.size(); here++)
      for (int k = 0; k < 3; k++)
        atom->f[seeds_here[here]][k] += sums[(size_t) columns * seed_place[here] + k];
    if (vflag_global) {
      const size_t rows = seeds.by_atom ? (size_t) n + S : 1;
      for (size_t row = 0; row < rows; row++) add_virial(virial, &pull_virial[9 * row]);
    }
    if (!seeds.by_atom) return;
    for (int i = 0; i < n; i++) add_virial(vatom[i], &pull_virial[9 * (size_t) i]);
    for (size_t here = 0; here < seeds_here.size(); here++)
      add_virial(vatom[seeds_here[here]], &sums[(size_t) columns * seed_place[here] + 3]);
  }

  // xx, yy, zz, xy, xz, yz of a symmetric (3, 3)
  static void add_virial(double *to, const double *v)
  {
    const int place[6] = {0, 4, 8, 1, 2, 5};
    for (int k = 0; k < 6; k++) to[k] += v[place[k]];
  }
};

// Where a plugin is loaded first all ranks are: a script may give one partition alone this style.
void place_on_node(MPI_Comm all)
{
  MPI_Comm node;
  MPI_Comm_split_type(all, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &node_rank);
  MPI_Comm_size(node, &node_size);
  MPI_Comm_free(&node);
}

Pair *make_pair(LAMMPS *lmp) { return new PairDuetto(lmp); }

// LAMMPS's lammpsplugin.h, which is not among the installed headers, in what is needed of it.
struct Plugin {
  const char *version, *style, *name, *info, *author;
  void *creator;
  void *handle;
};
using Register = void (*)(Plugin *, void *);

}    // namespace

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  auto *instance = static_cast<LAMMPS *>(lmp);
  if (instance->num_ver != DUETTO_LAMMPS_VERSION)
    instance->error->all(FLERR, "this pair style duetto was compiled for LAMMPS {}, and this is "
                                "LAMMPS {}: start with \"duetto lammps\", which compiles anew",
                         DUETTO_LAMMPS_VERSION, instance->num_ver);
  if (!node_size) place_on_node(instance->universe->uworld);
  Plugin plugin = {instance->version,
                   "pair",
                   "duetto",
                   "Duetto: two experts as one energy",
                   "the Duetto authors",
                   reinterpret_cast<void *>(&make_pair),
                   handle};
  reinterpret_cast<Register>(regfunc)(&plugin, lmp);
}
