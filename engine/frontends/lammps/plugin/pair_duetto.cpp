/* Copyright (C) the Duetto authors.

   This program is free software; you can redistribute it and/or modify it under the terms of the
   GNU General Public License, version 2, as published by the Free Software Foundation. It is
   distributed WITHOUT ANY WARRANTY. See the file LICENSE in this folder. */

// LAMMPS pair style "duetto": walks LAMMPS's full neighbour list, hands the edges of this rank's
// atoms to Duetto in the same process, and puts the gradients by edges back on atoms, ghosts
// included; LAMMPS's reverse communication brings the ghosts' share home.

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"

#include <cstdint>
#include <cstring>
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

// All return 0, or another number and a line in `message`.
struct DuettoCallbacks {
  int32_t (*open)(int32_t id, const char *arguments, int32_t local_rank, int32_t local_size,
                  char *message, int32_t length);
  int32_t (*coeff)(int32_t id, int32_t ntypes, const char *arguments, double *cutoffs,
                   int32_t *weighted, char *message, int32_t length);
  int32_t (*compute)(int32_t id, const DuettoEdges *edges, char *message, int32_t length);
  void (*close)(int32_t id);
};

static DuettoCallbacks callbacks = {nullptr, nullptr, nullptr, nullptr};
static int next_id = 0;

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
const char *const WEIGHTS = "duetto";    // of fix property/atom d_duetto

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
    int rank, size;
    MPI_Comm node;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &rank);
    MPI_Comm_size(node, &size);
    MPI_Comm_free(&node);
    int failed = callbacks.open(id, joined(narg, arg).c_str(), rank, size, message, MESSAGE);
    agree(failed, message);
    opened = true;
  }

  void coeff(int narg, char **arg) override
  {
    const int n = atom->ntypes;
    if (narg < 3 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
      error->all(FLERR, "pair style duetto: use \"pair_coeff * * FILE.duetto NAME …\" with a name "
                        "for each of the {} atom types, such as Pt, Pt_simple or Pt_blend", n);
    cutoffs.assign((size_t) n * n, 0.0);
    weighted.assign(n, 0);
    char message[MESSAGE] = "";
    int failed = callbacks.coeff(id, n, joined(narg - 2, arg + 2).c_str(), cutoffs.data(),
                                 weighted.data(), message, MESSAGE);
    agree(failed, message);
    if (!allocated) {
      memory->create(setflag, n + 1, n + 1, "pair:setflag");
      memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
      allocated = 1;
    }
    for (int i = 1; i <= n; i++)
      for (int j = 1; j <= n; j++) setflag[i][j] = j >= i;
    list_of = -1;
  }

  void init_style() override
  {
    if (!force->newton_pair)
      error->all(FLERR, "pair style duetto needs \"newton on\": forces on ghost atoms travel home");
    if (strcmp(update->unit_style, "metal") != 0)
      error->all(FLERR, "pair style duetto computes in eV and Å: use \"units metal\"");
    weights();
    list_of = -1;
    neighbor->add_request(this, NeighConst::REQ_FULL);
  }

  void setup() override { list_of = -1; }

  double init_one(int i, int j) override { return std::max(cutoff(i, j), cutoff(j, i)); }

  void compute(int eflag, int vflag) override
  {
    ev_init(eflag, vflag);
    const double began = platform::walltime();
    // Some commands set the count of builds back without a new init: the age tells as well.
    if (neighbor->ago == 0 || list_of != neighbor->ncalls) keep_near();
    find_edges();
    call();
    add(eflag);
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
        sizeof(double) * (rij.capacity() + gradient.capacity());
  }

 private:
  const int id;
  bool opened = false;
  bigint list_of = -1;    // the call of Neighbor::build that the kept list belongs to
  bigint calls = 0;
  double seconds = 0.0, last_ms = 0.0;
  std::vector<double> cutoffs;      // (ntypes, ntypes) by centre and neighbour, Å
  std::vector<int32_t> weighted;    // (ntypes,) whether the type's weights are the atoms' own
  std::vector<int64_t> first, tag;
  std::vector<int32_t> neighbors, pair_i, pair_j;
  std::vector<double> rij, gradient, energy;

  double cutoff(int i, int j) const { return cutoffs[(size_t) (i - 1) * atom->ntypes + j - 1]; }

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
    for (int flag : weighted) asked = asked || flag;
    if (!asked) return nullptr;
    int flag = 0, columns = 0;
    const int index = atom->find_custom(WEIGHTS, flag, columns);
    if (index < 0 || flag != 1 || columns != 0)
      error->all(FLERR, "types called NAME_blend need their weights: "
                        "\"fix blend all property/atom d_duetto ghost yes\"");
    return atom->dvector[index];
  }

  // The list is for the longer of the two cutoffs of a pair of types: keep what each centre sees.
  void keep_near()
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
        const double reach = cutoff(type[i], type[j]) + neighbor->skin;
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
        const double reach = cutoff(type[i], type[j]);
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
    edges.weight = weights();
    edges.energy = energy.data();
    edges.gradient = gradient.data();
    char message[MESSAGE] = "";
    if (callbacks.compute(id, &edges, message, MESSAGE))
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
};

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
  Plugin plugin = {instance->version,
                   "pair",
                   "duetto",
                   "Duetto: two experts as one energy",
                   "the Duetto authors",
                   reinterpret_cast<void *>(&make_pair),
                   handle};
  reinterpret_cast<Register>(regfunc)(&plugin, lmp);
}
