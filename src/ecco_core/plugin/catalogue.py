"""What our own distributions bring, so that a name whose plugin is missing is answered with its install."""

from __future__ import annotations

_ANALYSES = {
    "ecco-captum": """integrated_gradients ig saliency input_x_gradient grad_x_input feature_ablation occlusion
        feature_permutation shapley_value_sampling svs shapley_values kernel_shap lime deep_lift dl deep_lift_shap dls
        gradient_shap gs noise_tunnel smoothgrad guided_backprop gb deconvolution deconv guided_grad_cam gg
        guided_gradcam captum_lrp layer_relevance_propagation gradient layer_integrated_gradients lig layer_deep_lift
        layer_gradient_x_activation layer_conductance internal_influence neuron_gradient neuron_conductance
        neuron_integrated_gradients""",
    "ecco-attention": "attention head_scores raw_attention attention_rollout attention_flow attention_norms",
    "ecco-lrp": "lrp attnlrp attn_lrp relevance lrp_layers lrp_heads lrp_neurons",
    "ecco-faithfulness": "faithfulness compare_methods replacement_effect",
    "ecco-factorization": "nmf pca ica kmeans k_means umap neuron_activations top_neurons neuron_map",
    "ecco-lens": """logit_lens lens_kl layer_kl candidates layer_predictions rankings rankings_watch predict
        predict_token""",
    "ecco-probing": "probe probe_comparison fit_probe apply_probe",
    "ecco-similarity": "cka cca svcca pwcca procrustes rsa knn_overlap",
}
_MEDIA = {"ecco-html": "text/html .html .htm", "ecco-terminal": "text/x-ansi .ansi",
          "ecco-matplotlib": "image/svg+xml image/png application/pdf .svg .png .pdf"}  # fmt: skip
_SOURCES = {"ecco-tiny": "tiny"}
SOURCE_NAMES = tuple(name for names in _SOURCES.values() for name in names.split())


def install_for(name: str, before: str = "") -> str:
    """Return `before` and the ``pip install`` command that brings `name`, or nothing if we know of none."""
    brought = (_ANALYSES | _MEDIA | _SOURCES).items()
    return next((f"{before}pip install {distribution}" for distribution, names in brought if name in names.split()), "")
