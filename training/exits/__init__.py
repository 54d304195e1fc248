"""Post-hoc exits: when a trained model may stop, calibrated and guaranteed."""
