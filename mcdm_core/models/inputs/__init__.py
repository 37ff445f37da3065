"""What the models are given beside the paper's inputs: spectra, drawn shapes, a first guess of motion and its noise."""
