"""Images to latents and back: the basic autoencoder and its training, and Stable Diffusion's (B.1,
B.4).
"""
