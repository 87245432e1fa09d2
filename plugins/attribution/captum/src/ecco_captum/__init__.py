"""ecco-captum: feature attribution through Captum's own classes, many targets at once."""

from ecco_core import AnalysisSpec, hookimpl

_TAKES = ("targets", "features")
_SHAPLEY = "Strumbelj, Kononenko: Explaining Prediction Models, Knowledge and Information Systems 2014"

# name, module, summary, paper, aliases
_METHODS = (
    ("integrated_gradients", "gradients", "Gradients summed along a path from a baseline; sums to the change in score",
     "Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017", ("ig",)),
    ("saliency", "gradients", "Gradient of the score with respect to each token's embedding",
     "Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks, ICLR 2014 workshop", ("gradient",)),
    ("input_x_gradient", "gradients", "Embedding times gradient: the first-order effect of each token",
     "Shrikumar, Greenside, Kundaje: Learning Important Features, ICML 2017", ("grad_x_input",)),
    ("deep_lift", "deep_lift", "Differences from a baseline, followed back through slopes; sums to the change",
     "Shrikumar, Greenside, Kundaje: Learning Important Features, ICML 2017", ("dl",)),
    ("deep_lift_shap", "deep_lift", "DeepLift averaged over baselines drawn at random",
     "Lundberg, Lee: A Unified Approach to Interpreting Model Predictions, NeurIPS 2017", ("dls",)),
    ("gradient_shap", "sampled", "Gradients at random points between random baselines and the run, averaged",
     "Lundberg, Lee 2017; Erion et al.: Improving performance of deep learning models, Nature MI 2021", ("gs",)),
    ("noise_tunnel", "sampled", "Any other method, averaged over noisy copies of the run (SmoothGrad)",
     "Smilkov et al.: SmoothGrad, 2017; Adebayo et al. 2018 for VarGrad", ("smoothgrad",)),
    ("guided_backprop", "backprop", "Gradients that pass ReLUs only where signal and gradient are positive",
     "Springenberg et al.: Striving for Simplicity, ICLR 2015 workshop", ("gb",)),
    ("deconvolution", "backprop", "Gradients that pass ReLUs only where the gradient is positive",
     "Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014", ("deconv",)),
    ("guided_grad_cam", "backprop", "Guided gradients weighted by how much a block's units matter",
     "Selvaraju et al.: Grad-CAM, ICCV 2017", ("gg", "guided_gradcam")),
    ("captum_lrp", "backprop", "Layer-wise relevance by Captum's rules; says which modules have none",
     "Bach et al.: On Pixel-Wise Explanations, PLOS ONE 2015", ("layer_relevance_propagation",)),
    ("feature_ablation", "perturbation", "Drop of the score when one feature is taken away",
     "Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014", ()),
    ("occlusion", "perturbation", "Drop of the score when a sliding window of features is taken away",
     "Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014", ()),
    ("feature_permutation", "perturbation", "Drop of the score when a feature's tokens are exchanged for others",
     "Breiman: Random Forests, Machine Learning 2001; Fisher et al., JMLR 2019", ()),
    ("shapley_value_sampling", "perturbation", "Average rise of the score when a feature joins, over random orders",
     _SHAPLEY, ("svs",)),
    ("shapley_values", "perturbation", "Average rise of the score when a feature joins, exactly, of few features",
     "Shapley: A Value for n-Person Games, 1953", ()),
    ("kernel_shap", "perturbation", "Shapley values as a weighted linear fit to random masks",
     "Lundberg, Lee: A Unified Approach to Interpreting Model Predictions, NeurIPS 2017", ()),
    ("lime", "perturbation", "Weights of a sparse linear model fitted to random masks",
     "Ribeiro, Singh, Guestrin: Why Should I Trust You?, KDD 2016", ()),
    ("layer_integrated_gradients", "layers", "Gradients along a path of a layer's activations; sums to the change",
     "Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017", ("lig",)),
    ("layer_gradient_x_activation", "layers", "Activation times gradient: the first-order effect of each token's state",
     "Shrikumar, Greenside, Kundaje: Learning Important Features, ICML 2017", ()),
    ("layer_deep_lift", "layers", "DeepLift from the score back to a layer; sums to the change in score",
     "Shrikumar, Greenside, Kundaje: Learning Important Features, ICML 2017", ()),
    ("layer_conductance", "layers", "How much of the change from a baseline flows through each token's state",
     "Dhamdhere, Sundararajan, Yan: How Important Is a Neuron?, ICLR 2019; Shrikumar, Su, Kundaje 2018", ()),
    ("internal_influence", "layers", "Gradient at a layer, averaged along the path from a baseline",
     "Leino et al.: Influence-Directed Explanations for Deep Convolutional Networks, ITC 2018", ()),
    ("neuron_gradient", "neurons", "Gradient of a neuron's activation with respect to each token's embedding",
     "Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks, ICLR 2014 workshop", ()),
    ("neuron_integrated_gradients", "neurons", "Integrated gradients of a neuron's activation; sums to its change",
     "Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017", ()),
    ("neuron_conductance", "neurons", "What each token contributed to a prediction through one neuron",
     "Dhamdhere, Sundararajan, Yan: How Important Is a Neuron?, ICLR 2019; Shrikumar, Su, Kundaje 2018", ()),
)  # fmt: skip


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the attribution methods."""
    return [
        AnalysisSpec(
            name=name,
            summary=summary,
            target=f"ecco_captum.{module}:{name}",
            takes=_TAKES,
            needs_model=True,
            aliases=aliases,
            tags=("attribution", "perturbation" if module == "perturbation" else "gradient"),
            reference=paper,
        )
        for name, module, summary, paper, aliases in _METHODS
    ]
