"""What several papers do with weights: data, experiments and figures for any network of them."""
