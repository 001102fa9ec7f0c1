"""The editing experiment with the networks of this paper."""

from ml_collections import ConfigDict

from common.experiment import Experiment
from nfn.equivariant.editing.models import EditorSpec, editor
from nfn.tasks import sirens
from nfn.tasks.editing import edit_sirens


def editing(config: ConfigDict) -> Experiment:
    """Changes the weights of SIRENs so that they show the edited image (Table 6)."""
    spec, sizes = sirens.siren_set_spec(config.data), EditorSpec(**config.model.to_dict())
    return edit_sirens(config, editor(sirens.siren_space(spec), sizes, omega=spec.omega))
