"""Pairs: which model is F, which is G, which encoder compares their replies, and what they cost.

A pair is a TOML file, `harness/pairs/NAME.toml` or a user's own. `docs/models.md` documents it.
"""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.config_errors import UNQUOTED, describe
from harness.errors import UserError, nearest
from harness.session import Role

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_FOLDER = Path(__file__).parent.parent / "pairs"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingSpec(_Strict):
    """Where a model's weights are adapted when its engine only serves: here, by transformers.

    `id` and `revision`: None, those of the model that is served.
    """

    id: str | None = Field(default=None, min_length=1)
    revision: str | None = Field(default=None, min_length=1)
    dtype: Dtype = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class ModelSpec(_Strict):
    """One language model and how it is run.

    `id`: `embedded:F`, `embedded:G`, a folder (starting with `.`, `/` or `~`), or a hub id; for
    the engine `openai` the name that the server gives the model. `revision`: a hub branch, tag or
    commit; means nothing for the others. `dtype`: "auto" lets the device decide. `device`: "auto"
    takes a GPU when there is one. `chat_template_args` go to the chat template. `tokenizer`: where
    the tokenizer of a served model is, an id as above. `options`: the engine's own settings.
    `training`: how its weights are adapted when the engine only serves.
    """

    id: str = Field(min_length=1)
    revision: str = Field(default="main", min_length=1)
    dtype: Dtype = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: str = "transformers"
    chat_template_args: dict[str, Any] = {}
    tokenizer: str | None = Field(default=None, min_length=1)
    options: dict[str, Any] = {}
    training: TrainingSpec | None = None

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        from harness.engines.load import ENGINES

        if engine not in ENGINES:
            raise ValueError(f"unknown engine; {nearest(engine, ENGINES)}")
        return engine

    @model_validator(mode="after")
    def _known_options(self) -> ModelSpec:
        from harness.engines.load import options_class

        cls = options_class(self.engine)
        try:
            cls(**self.options)
        except ValidationError as error:
            problem = describe(error, cls, f"options of {self.engine}")
            raise PydanticCustomError(UNQUOTED, "{problem}", {"problem": str(problem)}) from None
        return self


class EncoderSpec(_Strict):
    """The sentence encoder. `id` as in ModelSpec; the embedded one is `embedded:encoder`."""

    id: str = Field(min_length=1)
    revision: str = Field(default="main", min_length=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class TokenPrices(_Strict):
    """US dollars per million tokens. None: unknown, which is not free."""

    input: float | None = Field(default=None, ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    output: float | None = Field(default=None, ge=0)
    training: float | None = Field(default=None, ge=0)


class Prices(_Strict):
    """What the pair costs: API tokens of F and of G, and an hour of the machine that runs it.

    `date` is when `source` said so. Whatever is unknown is None.
    """

    date: datetime.date
    source: str = Field(min_length=1)
    usd_per_hour: float | None = Field(default=None, ge=0)
    F: TokenPrices | None = None
    G: TokenPrices | None = None


class PairSpec(_Strict):
    """A named (F, G, encoder) triple. `prices` None: nothing about cost is known."""

    name: str = Field(min_length=1)
    summary: str = ""
    F: ModelSpec
    G: ModelSpec
    encoder: EncoderSpec
    prices: Prices | None = None


def pair_names() -> list[str]:
    """Names of the pairs that come with the project, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def pair_summaries() -> list[dict[str, str]]:
    """Name and one-line summary of every pair that comes with the project; validates nothing."""
    return [
        {"name": name, "summary": str(_read(_FOLDER / f"{name}.toml").get("summary", ""))}
        for name in pair_names()
    ]


def load_pair(name_or_path: str) -> PairSpec:
    """The pair of that name, or the one in that file (anything with a `/` or ending in `.toml`).

    A model id that names a folder is taken relative to the file. The pair's name is the file's.
    Raises UserError naming the file and the key.
    """
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        path = Path(name_or_path).expanduser()
        place = str(path)
    else:
        path = _FOLDER / f"{name_or_path}.toml"
        place = f"pair {name_or_path}"
        if name_or_path not in pair_names():
            raise UserError(place, f"no such pair; {nearest(name_or_path, pair_names())}")
    data = _read(path)
    if "name" in data:
        raise UserError(path, "unknown key 'name'; a pair is named after its file")
    try:
        pair = PairSpec.model_validate({"name": path.stem, **data})
    except ValidationError as error:
        raise describe(error, PairSpec, path) from error
    return pair.model_copy(
        update={
            "F": _anchored(pair.F, path.parent),
            "G": _anchored(pair.G, path.parent),
            "encoder": pair.encoder.model_copy(
                update={"id": _anchor(pair.encoder.id, path.parent)}
            ),
        }
    )


def is_folder_id(model_id: str) -> bool:
    """Whether a model id names a folder; `org/name` never does, whatever lies around."""
    return model_id.startswith((".", "/", "~"))


def training_copy(spec: ModelSpec) -> ModelSpec | None:
    """The copy of a served model that transformers adapts; None where `spec` asks for none."""
    training = spec.training
    if training is None:
        return None
    return ModelSpec(
        id=training.id or spec.id,
        revision=training.revision or spec.revision,
        dtype=training.dtype,
        device=training.device,
        chat_template_args=spec.chat_template_args,
    )


def trainer_of(role: Role) -> str:
    """What records call the copy of a model that is adapted where another copy serves."""
    return f"{role}-training"


def _anchored(spec: ModelSpec, folder: Path) -> ModelSpec:
    """`spec` with every folder it names taken relative to `folder`."""
    training = spec.training
    if training is not None and training.id is not None:
        training = training.model_copy(update={"id": _anchor(training.id, folder)})
    tokenizer = None if spec.tokenizer is None else _anchor(spec.tokenizer, folder)
    update = {"id": _anchor(spec.id, folder), "tokenizer": tokenizer, "training": training}
    return spec.model_copy(update=update)


def _anchor(model_id: str, folder: Path) -> str:
    if not is_folder_id(model_id):
        return model_id
    return str((folder / Path(model_id).expanduser()).resolve())


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UserError(path, f"is not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(path, f"is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); give a pair's name or a TOML file"
        raise UserError(path, problem) from error
