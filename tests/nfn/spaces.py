"""Small weight spaces of all kinds of networks, with axes of different lengths."""

from nfn.weights import cnn_space, mlp_space, residual_mlp_space, rnn_space

NETWORKS = {
    "one output": mlp_space([2, 3, 3, 1]),
    "cnn": cnn_space(channels=(2, 3, 4), filters=((3, 2), (1, 2)), dense=(3,)),
    "rnn": rnn_space([2, 4, 3]),
    "residual": residual_mlp_space(inputs=2, width=4, blocks=1, outputs=3),
}
