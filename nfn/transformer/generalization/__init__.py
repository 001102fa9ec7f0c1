"""Predicting the accuracy of networks from their weights (table "generalization")."""
