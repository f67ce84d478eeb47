"""TSDAE by Hugging Face's BertModel and BertLMHeadModel in float64, encoder and decoder tied, on a tiny random encoder of
test/support/tiny-model.ts, dropout off: loss and gradients.

usage: tsdae.py MODEL_FOLDER && npx prettier --write tsdae.json

The folder is written by
  node -e "import('./dist/test/support/tiny-model.js').then((m) => m.makeTinyModel(process.argv[1], { layers: 2, hiddenSize: 8, heads: 2 }))" /tmp/tiny
What sentence-transformers' DenoisingAutoEncoderLoss(tie_encoder_decoder=True) computes: the decoder's parameters are the encoder's but
for cross-attention and head, its loss the mean over all tokens but each text's first. Each sequence goes through alone, so that there is
no padding. Parameters are named as in encoder/bert.ts, the others as in trainer/tensorflow/cross-attention.ts and mlm.ts.
"""
import sys

import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import BertLMHeadModel, BertModel

from golden import random, write

CLS, SEP, FIRST_WORD = 2, 3, 5
LENGTHS = [9, 4, 12, 7]
KEPT = [[2, 5], [1], [1, 3, 4, 9], [5]]
HEAD = {
    "decoder.transform.weight": "cls.predictions.transform.dense.weight",
    "decoder.transform.bias": "cls.predictions.transform.dense.bias",
    "decoder.transform.norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "decoder.transform.norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "decoder.bias": "cls.predictions.bias",
}

options = {"attn_implementation": "eager"}
encoder = BertModel.from_pretrained(sys.argv[1], add_pooling_layer=False, **options).double().eval()
decoder = BertLMHeadModel.from_pretrained(sys.argv[1], is_decoder=True, add_cross_attention=True, **options).double().eval()
assert decoder.cls.predictions.decoder.weight is decoder.bert.embeddings.word_embeddings.weight
assert decoder.cls.predictions.decoder.bias is decoder.cls.predictions.bias
OWN = dict(HEAD)
for layer in range(encoder.config.num_hidden_layers):
    theirs, ours = f"bert.encoder.layer.{layer}.crossattention", f"decoder.layer.{layer}.cross"
    for kind in ("weight", "bias"):
        OWN[f"{ours}.value.{kind}"] = f"{theirs}.self.value.{kind}"
        OWN[f"{ours}.output.{kind}"] = f"{theirs}.output.dense.{kind}"
        OWN[f"{ours}.norm.{kind}"] = f"{theirs}.output.LayerNorm.{kind}"

generator = torch.Generator().manual_seed(24)
parameters = dict(decoder.named_parameters())
with torch.no_grad():
    for name in OWN.values():
        value = parameters[name]
        value.copy_(random(generator, *value.shape, scale=0.4, mean=1.0 if name.endswith("LayerNorm.weight") else 0.0))
own = {name: parameters[theirs].detach().clone() for name, theirs in OWN.items()}

shared = [name for name, _ in encoder.named_parameters()]
for name in shared:
    module, _, kind = name.rpartition(".")
    setattr(encoder.get_submodule(module), kind, parameters[f"bert.{name}"])


def words(count):
    return torch.randint(FIRST_WORD, encoder.config.vocab_size, (count,), generator=generator).tolist()


originals = [[CLS, *words(length - 2), SEP] for length in LENGTHS]
noisy = [[CLS, *(text[at] for at in kept), SEP] for text, kept in zip(originals, KEPT)]
vectors = torch.stack([encoder(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in noisy])
vectors.retain_grad()
logits = torch.cat(
    [
        decoder(input_ids=torch.tensor([ids[:-1]]), encoder_hidden_states=vectors[i].reshape(1, 1, -1), use_cache=False).logits[0]
        for i, ids in enumerate(originals)
    ]
)
labels = torch.tensor([token for ids in originals for token in ids[1:]])
loss = cross_entropy(logits, labels)
loss.backward()
for name, value in parameters.items():
    if "crossattention.self.query" in name or "crossattention.self.key" in name:
        assert value.grad.abs().max() < 1e-12, name

write(
    "tsdae.json",
    f"transformers {transformers.__version__}, torch {torch.__version__}, float64",
    {
        "originals": originals,
        "noisy": noisy,
        "parameters": own,
        "loss": loss.detach(),
        "accuracy": (logits.argmax(1) == labels).double().mean(),
        "vectors": vectors.detach(),
        "dVectors": vectors.grad,
        "gradients": {
            **{name: parameters[f"bert.{name}"].grad.flatten() for name in shared},
            **{name: parameters[theirs].grad.flatten() for name, theirs in OWN.items()},
        },
    },
)
