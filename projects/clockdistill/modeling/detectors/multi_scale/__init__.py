"""What DINO and Deformable-DETR share: feature levels, encoder, decoder, proposals."""
