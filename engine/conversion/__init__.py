"""nequip models to experts and pairs; the only room beside co-training that knows nequip."""
