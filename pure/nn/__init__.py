"""The product unit as functions and as layers, and the blocks of networks; knows neither data nor training."""
