"""What `prep` makes: WebDataset tars, their indexes, and every byte of them checked."""
