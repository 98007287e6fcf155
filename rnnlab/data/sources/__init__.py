"""Published data sets by name; `rnnlab.data.published.open` prepares and opens one."""

from rnnlab.data.sources.fashion_mnist import FashionMnist
from rnnlab.data.sources.mnist import Mnist
from rnnlab.data.sources.movie_snippets import MovieSnippets
from rnnlab.data.sources.spoken_digits import SpokenDigits
from rnnlab.data.sources.tatoeba import Tatoeba
from rnnlab.data.sources.tiny_shakespeare import TinyShakespeare
from rnnlab.data.sources.wnut17 import Wnut17

SOURCES = {
    "tiny_shakespeare": TinyShakespeare,
    "wnut17": Wnut17,
    "movie_snippets": MovieSnippets,
    "tatoeba": Tatoeba,
    "spoken_digits": SpokenDigits,
    "mnist": Mnist,
    "fashion_mnist": FashionMnist,
}
