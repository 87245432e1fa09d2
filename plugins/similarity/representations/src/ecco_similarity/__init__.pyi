"""The public names and where they live; read by type checkers, and at run time by lazy_loader."""

from .canonical import canonical_correlations as canonical_correlations, cca as cca, pwcca as pwcca, svcca as svcca
from .kernels import cka as cka
from .measures import grid as grid, interval as interval, permutation_null as permutation_null
from .neighbours import knn_overlap as knn_overlap, rsa as rsa
from .shapes import procrustes as procrustes
