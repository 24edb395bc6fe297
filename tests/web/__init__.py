"""The pages for a browser, with real servers behind them."""
