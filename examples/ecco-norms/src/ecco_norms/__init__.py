from ecco_core import AnalysisSpec, CaptureSpec, hookimpl


@hookimpl
def ecco_analyses():
    return [AnalysisSpec(name="norms", summary="Norm of a site at every layer and token",
                         target="ecco_norms.norms:norms", produces="TokenGrid", takes=("sites", "layers"))]  # fmt: skip


@hookimpl
def ecco_captures():
    return [CaptureSpec(name="resid_norm", summary="Norm of the residual stream after each layer",
                        target="ecco_norms.norms:resid_norm", needs=("resid_post",), dims=("token",))]  # fmt: skip
