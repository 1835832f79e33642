"""The scikit-learn estimators and what is built on them."""
