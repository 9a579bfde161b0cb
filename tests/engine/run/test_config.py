import copy
import math
import random
import string
from pathlib import Path

import pytest
import yaml

from duetto.errors import InputError
from duetto.partition.regions import Regions
from duetto.run.config import LangevinStage, NVEStage, RunConfig, Section, load_config

VALID = {
    "structure": {"file": "slab.xyz", "frame": 0, "repeat": [2, 2, 1]},
    "pair": "ptco.duetto",
    "regions": {
        "complex": {"any": [{"species": ["C", "O"]}, {"slab": {"axis": "z", "min": 18.0}}]},
        "blend": {"width": 3.0, "profile": "cosine"},
    },
    "guard": "warn",
    "device": "cpu",
    "dtype": "float64",
    "backend": "torch",
    "precision": "auto",
    "skin_A": 0.4,
    "timestep_fs": 0.5,
    "seed": 7,
    "initial_temperature_K": 300,
    "exact_initial_temperature": True,
    "stages": [
        {"ensemble": "langevin", "steps": 500, "temperature_K": 300, "friction_per_fs": 0.01},
        {"ensemble": "nve", "steps": 2000},
    ],
    "output": {
        "dir": "out",
        "thermo_every": 5,
        "trajectory_every": 0,
        "checkpoint_every": 100,
        "trajectory_fields": ["velocities", "forces"],
    },
    "limits": {"temperature_K": 4000, "energy_drift_meV_per_atom": None},
}

MINIMAL = """\
structure: slab.xyz
pair: ptco.duetto
regions: {complex: {species: [C, O]}}
timestep_fs: 1
initial_temperature_K: 300
stages:
  - {ensemble: nve, steps: 1e3}
"""


@pytest.fixture
def load(tmp_path):
    def load(data, *overrides):
        path = tmp_path / "run.yaml"
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False))
        return load_config(path, overrides)

    return load


def test_every_key(load, tmp_path):
    config = load(VALID)
    assert config.structure.file == tmp_path / "slab.xyz"
    assert config.structure.repeat == (2, 2, 1)
    assert config.output.dir == tmp_path / "out"
    assert config.regions == Regions.from_dict(VALID["regions"], folder=tmp_path)
    assert config.stages == [
        LangevinStage(ensemble="langevin", steps=500, temperature_K=300.0, friction_per_fs=0.01),
        NVEStage(ensemble="nve", steps=2000),
    ]
    assert config.limits.energy_drift_meV_per_atom is None
    assert config.temperature_limit_K == 4000.0


def test_defaults(load, tmp_path):
    config = load(MINIMAL)
    assert config.structure.file == tmp_path / "slab.xyz"
    assert config.structure.frame == -1
    assert config.stages[0].steps == 1000
    assert config.dtype == "float32"
    assert config.precision == "auto"
    assert config.guard == "error"
    assert config.output.dir == tmp_path / "output"
    assert config.limits.energy_drift_meV_per_atom == 50.0


def test_a_configuration_reads_back_from_its_own_dump(load, tmp_path):
    config = load(VALID)
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_every_field_is_described():
    def undescribed(model):
        for name, field in model.model_fields.items():
            yield from [f"{model.__name__}.{name}"] if not field.description else []

    from duetto.run import config

    sections = [
        value
        for value in vars(config).values()
        if isinstance(value, type) and issubclass(value, config.Section)
    ]
    assert {config.RunConfig, config.OutputConfig, config.NoseHooverStage} <= set(sections)
    assert [name for section in sections for name in undescribed(section)] == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"initial_temperature_K": 300}, 3000.0),
        ({"initial_temperature_K": 500}, 5000.0),
        ({"initial_temperature_K": 0}, 20000.0),
        ({"initial_temperature_K": None}, 20000.0),
        ({"initial_temperature_K": 10}, 3000.0),
        (
            {"stages": [{"ensemble": "langevin", "steps": 1, "temperature_K": 900}]},
            9000.0,
        ),
    ],
)
def test_temperature_limit(load, keys, expected):
    config = load({**VALID, "limits": {}, "stages": [VALID["stages"][1]], **keys})
    assert config.temperature_limit_K == expected


def test_overrides(load, tmp_path):
    config = load(
        MINIMAL,
        "stages.0.steps=100",
        "limits.temperature_K=1e4",
        "output.trajectory_fields=[forces]",
        "structure.frame=3",
        "output.dir=elsewhere=1",
    )
    assert config.stages[0].steps == 100
    assert config.limits.temperature_K == 1e4
    assert config.output.trajectory_fields == ["forces"]
    assert config.structure.frame == 3
    assert config.structure.file == tmp_path / "slab.xyz"
    assert config.output.dir == tmp_path / "elsewhere=1"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("timestep=3", "command line: unknown key 'timestep' (did you mean \"timestep_fs\"?)"),
        ("output.thermo_evry=3", "output: unknown key 'thermo_evry' (did you mean \"thermo_every"),
        ("stages.0.step=3", "stages[0]: unknown key 'step' (did you mean \"steps\"?); allowed: "),
        ("stages.0.steps=-3", "stages[0].steps: got -3; allowed: greater than or equal to 1"),
        ("stages.0.steps=2.5", "stages[0].steps: got 2.5; allowed: a whole number"),
        ("stages.0.ensemble=nvt", "stages[0].ensemble: got 'nvt'; allowed: nve, langevin"),
        ("stages.0={steps: 3}", "stages[0].ensemble: missing; it is required"),
        ("stages.1.steps=3", "stages is a list; allowed: an index from 0 to 0, got '1'"),
        ("stages.0=5", "stages[0]: got 5; allowed: a mapping"),
        ("stages=[]", "stages: got []; allowed: a list of at least 1 entry"),
        ("timestep_fs=fast", "timestep_fs: got 'fast'; allowed: a number"),
        ("timestep_fs=true", "timestep_fs: got true; allowed: a number"),
        ("timestep_fs=.nan", "timestep_fs: got nan; allowed: a finite number"),
        ("timestep_fs=0", "timestep_fs: got 0; allowed: greater than or equal to 0.0001"),
        ("timestep_fs.a=0", "timestep_fs is 1, which has no key 'a'"),
        ("dtype=flaot32", "dtype: got 'flaot32'; allowed: float32, float64 (did you mean \"floa"),
        ("device=gpu", "device: got 'gpu'; allowed: auto, cpu, cuda, cuda:N"),
        ("guard=promot", "guard: got 'promot'; allowed: error, warn, promote (did you mean"),
        ("guard={polcy: warn}", "guard: unknown key 'polcy' (did you mean \"policy\"?)"),
        ("output=out", "output: got 'out'; allowed: a mapping with the keys dir, thermo_every"),
        ("pair=", "pair: missing; it is required, unless experts names them"),
        ("regions.complx=all", "regions: unknown key 'complx' (did you mean \"complex\"?)"),
        ("output.trajectory_fields=[forces, forces]", "allowed: each field once"),
        ("seed=4294967296", "seed: got 4294967296; allowed: less than 4294967296"),
        ("structure={frame: 1}", "structure.file: missing; it is required"),
        ("timestep_fs", "write it as key.sub=value"),
        ("output.dir=[", "override 'output.dir=[', line 1"),
    ],
)
def test_errors_name_key_given_and_allowed(load, override, message):
    with pytest.raises(InputError) as error:
        load(MINIMAL, override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_errors_in_the_file_name_the_file_and_count_the_rest(load, tmp_path):
    with pytest.raises(InputError) as error:
        load(MINIMAL.replace("timestep_fs", "timestep").replace("1e3", "none"))
    assert str(error.value).startswith(f"{tmp_path / 'run.yaml'}: unknown key 'timestep'")
    assert str(error.value).endswith("(and 2 more)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty; allowed: a mapping"),
        ("- a\n", "the file holds ['a']; allowed: a mapping"),
        ("a: [1\nb: 2\n", "run.yaml, line 2, column 2: "),
        ("a: 1\n\tb: 2\n", "run.yaml, line 2, column 1: "),
        ("pair: a\nseed: 1\npair: b\n", "line 3, column 1: the key 'pair' is given twice, first"),
        ("output: {dir: a, dir: b}\n", "line 1, column 18: the key 'dir' is given twice"),
        ("a: &x [*x]\n", "aliases (*x) are not allowed"),
        ("a: !!python/object:os.system x\n", "line 1"),
        ("a: 2001-99-99\n", "run.yaml: month must be in 1..12"),
        ("a: " + "[" * 5000, "run.yaml: nested too deep"),
        ("a: " + "9" * 5000, "run.yaml: "),
        ("a: \x01\n", "run.yaml: character 3 is not allowed in YAML"),
    ],
)
def test_text_that_is_no_configuration(load, text, message):
    with pytest.raises(InputError) as error:
        load(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"pair: \xff\xfe")
    with pytest.raises(InputError, match="byte 6 is not UTF-8"):
        load_config(tmp_path / "binary.yaml")


def test_the_example_shows_every_key():
    path = Path(__file__).parents[3] / "examples" / "ptco" / "run.yaml"
    config = load_config(path)
    given = yaml.safe_load(path.read_text())

    def missing(model, data, prefix=""):
        for name in type(model).model_fields:
            value = getattr(model, name)
            if name not in data:
                yield prefix + name
            elif isinstance(value, Section):
                yield from missing(value, data[name], f"{prefix}{name}.")

    assert list(missing(config, given)) == []
    assert config.structure.file.is_file()


# Mutations ---------------------------------------------------------------------------------------

GARBAGE = [
    None, True, False, 0, -1, 1, 2, 3.5, 1e300, -1e-300, 10**30, float("nan"), float("inf"),
    "", " ", "auto", "nve", "langevin", "1", "1e-3", "ångström", "a\x00b", "/", "..", "\ud800",
    [], [[]], [1], [1, 2, 3], [None], ["velocities"], {}, {"a": 1}, {"file": "x"}, {1: 2},
    {"ensemble": "nve"}, {"ensemble": []}, {"complex": "all"}, {"policy": "warn"},
]  # fmt: skip


def places(data):
    """Every (container, key) in nested data."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield data, key
            yield from places(value)


def mutate(data, rng):
    container, key = rng.choice(list(places(data)))
    kind = rng.randrange(7)
    value = container[key]
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        letters = list(str(key))
        letters[rng.randrange(len(letters))] = rng.choice(string.ascii_letters)
        container["".join(letters)] = container.pop(key)
    elif kind == 2:
        container[key] = copy.deepcopy(rng.choice(GARBAGE))
    elif kind == 3 and isinstance(value, (int, float)):
        container[key] = value * rng.choice([-1, 0, 0.5, 1e3, 1e9, 1e18, -1e30])
    elif kind == 4:
        container[key] = rng.choice([str(value), [value], {"value": value}, [value, value]])
    elif kind == 5:
        other, other_key = rng.choice(list(places(data)))
        container[key] = copy.deepcopy(other[other_key])
    elif isinstance(container, list):
        container.insert(key, copy.deepcopy(rng.choice([value, *GARBAGE])))
    else:
        container[rng.choice(["extra", "steps", "dir", "frame"])] = copy.deepcopy(value)


def require_a_run(config):
    """A description that a run can follow: every number is a number in its range."""

    def number(value, low, high):
        return type(value) is float and math.isfinite(value) and low <= value <= high

    def whole(value, low, high):
        return type(value) is int and low <= value <= high

    assert isinstance(config.structure.file, Path)
    assert config.structure.file.is_absolute()
    assert type(config.structure.frame) is int
    assert len(config.structure.repeat) == 3
    assert all(whole(count, 1, 1000) for count in config.structure.repeat)
    assert isinstance(config.pair, Path)
    assert isinstance(config.regions, Regions)
    assert config.device in ("auto", "cpu", "cuda")
    assert config.dtype in ("float32", "float64")
    assert config.backend in ("auto", "torch", "triton")
    assert config.precision in ("auto", "fp32", "bf16x3", "tf32")
    assert number(config.skin_A, 0, 5)
    assert number(config.timestep_fs, 1e-4, 100)
    assert whole(config.seed, 0, 2**32 - 1)
    assert config.initial_temperature_K is None or number(config.initial_temperature_K, 0, 1e5)
    assert type(config.exact_initial_temperature) is bool
    assert config.stages
    for stage in config.stages:
        assert isinstance(stage, NVEStage | LangevinStage)
        assert whole(stage.steps, 1, 10**12)
        if isinstance(stage, LangevinStage):
            assert number(stage.temperature_K, 0, 1e5)
            assert number(stage.friction_per_fs, 1e-300, 10)
    assert isinstance(config.output.dir, Path)
    assert whole(config.output.thermo_every, 1, 10**9)
    assert whole(config.output.trajectory_every, 0, 10**9)
    assert whole(config.output.checkpoint_every, 0, 10**9)
    allowed = {"velocities", "momenta", "forces", "energies", "weights"}
    fields = config.output.trajectory_fields
    assert set(fields) <= allowed
    assert len(set(fields)) == len(fields)
    assert number(config.temperature_limit_K, 1e-300, 1e9)
    drift = config.limits.energy_drift_meV_per_atom
    assert drift is None or number(drift, 1e-300, 1e9)
    assert config.guard in ("error", "warn", "promote") or isinstance(config.guard, dict)
    # And it can be written into a checkpoint and read back.
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_thousand_mutated_configurations(tmp_path):
    """Each is a run, with every value in range, or one line of InputError; nothing else."""
    rng = random.Random(20)
    path = tmp_path / "run.yaml"
    accepted, refused = 0, []
    for _ in range(1000):
        data = copy.deepcopy(VALID)
        for _ in range(rng.randint(1, 3)):
            mutate(data, rng)
        text = yaml.dump(data, allow_unicode=rng.random() < 0.5)
        if rng.random() < 0.2:  # damage the text itself
            position = rng.randrange(len(text))
            text = text[:position] + rng.choice("\t:{}[]&*!|>%@\"'\n#- ,") + text[position + 1 :]
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            config = load_config(path)
        except InputError as error:
            refused.append(str(error))
        else:
            require_a_run(config)
            accepted += 1
    assert [line for line in refused if "\n" in line or not line.startswith(str(path))] == []
    assert len(refused) > 500
    assert accepted > 50
